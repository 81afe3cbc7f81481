"""`qspace-nd eval`."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Run


def test_a_quiet_eval_prints_its_table_alone(folder: Path, call: Run) -> None:
    outcome = call("eval --labels lesions.nii.gz -q", folder)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "latent-distance" in outcome.stdout
