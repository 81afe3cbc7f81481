from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.workflows import demo
from qspace_nd.workflows.demo import run_demo
from tests.conftest import Heard, tiny_cohort, tree_of


def test_the_whole_method_runs_on_a_small_cohort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(folder: Path, *, voxel_size: float, **settings: object) -> object:
        return tiny_cohort(folder, **settings)

    monkeypatch.setattr(demo, "simulate_cohort", simulate)
    monkeypatch.setattr(demo, "NoveltyModel", lambda **how: NoveltyModel(epochs=1, **how))
    heard = Heard()
    done = run_demo(tmp_path, seed=2, progress=heard)
    assert {result.score for result in done.results} == {BASELINE_SCORE, DEFAULT_SCORE}
    assert {result.patient for result in done.results} == {"sub-patient01", "sub-patient02"}
    assert 0.5 < done.auc(BASELINE_SCORE) <= 1.0
    assert NoveltyModel.load(done.model).seed == 2
    assert [path.is_file() for files in done.maps for path in files.paths()] == [True] * 2 * 21
    assert {"Simulating", "Training", "Scoring voxels", "Evaluating maps"} <= {*heard.names}
    assert [path.name for path in sorted(done.report.parent.iterdir())] == [
        *("index.html", "methods.md", "references.bib"),
        *("sub-patient01.html", "sub-patient02.html"),
    ]
    before = tree_of(tmp_path)
    with pytest.raises(Exception, match="exists already"):
        run_demo(tmp_path)
    assert tree_of(tmp_path) == before
