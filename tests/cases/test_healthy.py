"""Datasets that do not say who is healthy, or say it in other words: `fit --bids` asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cases.scans import PEOPLE, save_dataset
from tests.conftest import Run

GROUPS = [f"{label}\t{group}" for label, group in PEOPLE.items()]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_dataset(tmp_path_factory.mktemp("healthy") / "ds")


def lines(header: str, rows: list[str]) -> str:
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (lines("participant_id\tgroup", [row.lstrip("0") for row in GROUPS]), "which names sub-1"),
        (lines("participant_id\tGroup", GROUPS), r"several groups: control (3), patient (1)"),
        (lines("participant_id\tgroup ", GROUPS), r"--where 'group=control'"),
        (lines("participant_id\tdiagnosis", GROUPS), "but diagnosis may be it"),
        (lines("participant_id\tx", GROUPS), "but x may be it"),
        (lines("participant_id\tgroup", GROUPS[:2]), "of 2 participants (sub-003, sub-004)"),
        (lines("participant_id\tgroup", [*GROUPS[:3], "004\tn/a"]), "of 1 participant (sub-004)"),
        (lines("participant_id\tgroup", [*GROUPS[:3], "004\t"]), "of 1 participant (sub-004)"),
        (lines("participant_id\tgroup", []), "which names nobody"),
        ("", "has no column participant_id"),
        (None, "has no participants.tsv"),
    ],
)
def test_nobody_is_taken_as_healthy_who_is_not_known_to_be(
    table: str | None, says: str, dataset: Path, tmp_path: Path, call: Run
) -> None:
    (dataset / "participants.tsv").unlink(missing_ok=True)
    if table is not None:
        (dataset / "participants.tsv").write_text(table)
    done = call(f"fit --bids {dataset} --epochs 1", tmp_path)
    assert done.status == 2
    assert says.replace("'group=control'", "group=control") in done.stderr
    assert not (tmp_path / "qspace-nd-model").exists()


def test_those_who_are_chosen_are_fitted(dataset: Path, tmp_path: Path, call: Run) -> None:
    (dataset / "participants.tsv").write_text(lines("participant_id\tDiagnosis ", GROUPS))
    done = call(f"fit --bids {dataset} --where diagnosis=Control --epochs 1", tmp_path)
    assert done.status == 0, done.stderr
    index = (tmp_path / "qspace-nd-model/model.json").read_text()
    assert [f"sub-{label}" in index for label in PEOPLE] == [True, True, True, False]
