from __future__ import annotations

import re
from pathlib import Path

import pytest

from qspace_nd.errors import InputError
from qspace_nd.layouts.participants import Participants, read_participants


def table(folder: Path, *rows: str) -> Participants:
    text = "\n".join(row.replace(" | ", "\t") for row in rows)
    (folder / "participants.tsv").write_text(f"{text}\n")
    return read_participants(folder)


LABELS = ["01", "02", "03"]


def test_columns_and_values_are_read_without_case_and_blanks(tmp_path: Path) -> None:
    people = table(tmp_path, "Participant_ID | Group  | age", "sub-01 |  control | 30", "02 | n/a")
    assert people.columns == ("Group", "age")
    assert people.has("group") and people.has(" GROUP") and not people.has("sex")
    assert [people.value(label, "group") for label in LABELS] == ["control", "n/a", "n/a"]


def test_a_participant_of_two_rows_is_what_both_say(tmp_path: Path) -> None:
    rows = ("sub-01 | a | 1", "sub-01 | a | 2")
    people = table(tmp_path, "participant_id | group | session", *rows)
    assert (people.value("01", "group"), people.value("01", "session")) == ("a", "n/a")


@pytest.mark.parametrize(
    ("rows", "why", "condition"),
    [
        (
            ("participant_id | group", "sub-01 | control", "sub-02 | control", "sub-03 | patient"),
            r"several groups: control \(2\), patient \(1\)",
            "group=control",
        ),
        (
            ("participant_id | Group ", "sub-01 | MS", "sub-02 | Healthy control", "sub-03 | MS"),
            r"several groups: MS \(2\), Healthy control \(1\)",
            "'Group=Healthy control'",
        ),
        (
            ("participant_id | group", "sub-01 | control", "sub-02 | n/a", "sub-03 | "),
            r"does not say the group of 2 participants \(sub-02, sub-03\) in its participants.tsv",
            "group=control",
        ),
        (
            ("participant_id | group", "sub-01 | control", "sub-02 | control"),
            r"does not say the group of 1 participant \(sub-03\)",
            "group=control",
        ),
        (
            ("participant_id | group", *(f"sub-{n} | control" for n in (1, 2, 3))),
            r"no participant with a scan \(sub-01, sub-02, sub-03\) in its .*, which names sub-1, ",
            "",
        ),
        (("participant_id | group",), r"in its participants.tsv, which names nobody", ""),
        (
            ("participant_id | diagnosis", "sub-01 | HC", "sub-02 | HC", "sub-03 | MS"),
            r"no column group in its participants.tsv, but diagnosis may be it \(diagnosis: HC",
            "diagnosis=HC",
        ),
        (
            ("participant_id | x", "sub-01 | healthy", "sub-02 | patients", "sub-03 | healthy"),
            r"but x may be it \(x: healthy \(2\), patients \(1\)\)",
            "x=healthy",
        ),
        (
            ("participant_id | group", *(f"sub-0{n} | patient" for n in (1, 2, 3))),
            r"has participants of the group patient alone",
            "group=patient",
        ),
    ],
)
def test_who_is_healthy_is_in_doubt(
    rows: tuple[str, ...], why: str, condition: str, tmp_path: Path
) -> None:
    doubt = table(tmp_path, *rows).doubt(LABELS)
    assert doubt is not None
    assert re.search(why, doubt[0]), doubt[0]
    assert doubt[1] == condition


@pytest.mark.parametrize(
    "rows",
    [
        ("participant_id | group", *(f"sub-0{n} | control" for n in (1, 2, 3, 4))),
        ("participant_id | age | sex | handedness", "sub-01 | 30 | f | right"),
    ],
)
def test_who_is_healthy_is_in_no_doubt(rows: tuple[str, ...], tmp_path: Path) -> None:
    assert table(tmp_path, *rows).doubt(LABELS) is None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no column participant_id; expected one"),
        (b"participant_id,group\nsub-01,control\n", "has no column participant_id"),
        (
            "participant_id\tgroup\n".encode("utf-16"),
            "cannot be read .*; expected a table in UTF-8",
        ),
        (b"participant_id\tgr\xf6up\n", "cannot be read .*; expected a table in UTF-8"),
        (b"participant_id\tgroup\tGroup \n", "has several columns group; expected one of each"),
        (b"participant_id\n" + b"x" * 200_000, "cannot be read .*field larger than"),
    ],
)
def test_a_table_that_is_none_is_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_bytes(content)
    with pytest.raises(InputError, match=rf"participants.tsv {says}"):
        read_participants(tmp_path)


@pytest.mark.parametrize("target", ["gone", "participants.tsv"])
def test_a_table_that_is_not_here_is_missed(target: str, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").symlink_to(target)
    with pytest.raises(InputError, match=r"participants.tsv is a link to content that is not"):
        read_participants(tmp_path)
