"""`qspace-nd demo`."""

from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.evaluation.metrics import Result
from qspace_nd.layouts.maps import MapFiles
from qspace_nd.system.machine import Machine
from qspace_nd.workflows import demo as demonstration
from qspace_nd.workflows.demo import Demo
from qspace_nd.workflows.evaluate import evaluate_maps
from tests.conftest import LABELS, NOVELTY, Run


@pytest.fixture
def results(inside: Path) -> list[Result]:
    return evaluate_maps([NOVELTY], [LABELS], "eval").results


def test_the_demo_shows_its_tables_and_where_all_lies(
    results: list[Result], tmp_path: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def run(folder: Path, **how: object) -> Demo:
        asked.update(how, folder=folder)
        maps = [MapFiles({"latent-distance": Path("m/a.nii.gz")}, Path("m/a_mask.nii.gz"))]
        return Demo(Path("c"), Path("model"), maps, Path("e"), Path("r/index.html"), results)

    monkeypatch.setattr(demonstration, "run_demo", run)
    monkeypatch.setattr(Demo, "auc", lambda self, score: 0.9)
    outcome = call("demo there --seed 3 --device cpu --force", tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert (asked["folder"], asked["seed"], asked["force"]) == (Path("there"), 3, True)
    assert asked["machine"] == Machine("cpu")
    assert "latent-distance" in outcome.stdout
    assert outcome.stdout.splitlines()[-6:] == [
        "Mean AUC: latent-distance 0.900, input-distance (the baseline) 0.900",
        "Scans and labels: c/",
        "Model:            model/",
        "Novelty map:      m/a.nii.gz",
        "Tables, figures:  e/",
        "Report:           r/index.html (open it in a browser)",
    ]
