"""`qspace-nd scores`."""

from __future__ import annotations

from pathlib import Path

from qspace_nd.scores.catalogue import CATALOGUE
from tests.conftest import Run


def test_every_score_is_listed_with_its_symbol_and_its_equation(tmp_path: Path, call: Run) -> None:
    outcome = call("scores", tmp_path)
    assert (outcome.status, outcome.stderr) == (0, "")
    for name, entry in CATALOGUE.items():
        (line,) = [line for line in outcome.stdout.splitlines() if line.split()[:1] == [name]]
        assert entry.symbol in line and entry.equation in line and entry.cost.label in line
