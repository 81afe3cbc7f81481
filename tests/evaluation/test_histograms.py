from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qspace_nd.evaluation import histograms as module
from qspace_nd.evaluation.histograms import histograms
from qspace_nd.evaluation.metrics import evaluate
from tests.evaluation.conftest import case_of, require_picture, results_of


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_histograms_have_a_panel_for_each_score(tmp_path, figures, count):
    scores = [f"score-{at}" for at in range(count)]
    histograms(tmp_path / "histograms.png", results_of(scores, 2))
    require_picture(tmp_path / "histograms.png")
    assert [axes.get_title("left") for axes in figures[0].axes] == scores
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == [
        "healthy voxels",
        "lesion voxels",
    ]


def test_a_density_holds_its_class_but_for_what_lies_beyond_the_axis():
    random = np.random.default_rng(0)
    values = np.sort(np.exp(3 * random.normal(size=5_000)))
    heavy = module._Values.pooled([(values, 90_000), (values[:100], 100)])
    edges = module._bin_edges(heavy, heavy)
    inside = np.sum(heavy.density(edges) * np.diff(edges))
    assert inside + heavy.share_outside(edges) == pytest.approx(1.0)
    assert 0.02 < heavy.share_outside(edges) < 0.3


def test_a_heavy_tail_is_cut_and_said_so_and_a_light_one_is_not(tmp_path, figures):
    light = case_of()
    heavy = replace(light, score="heavy", novelty=np.exp(2 * light.novelty))
    histograms(tmp_path / "histograms.png", [evaluate(one, 8.0) for one in (light, heavy)])
    notes = [axes.texts[0].get_text() for axes in figures[0].axes]
    assert "beyond" not in notes[0] and "beyond the axis" in notes[1]


def test_a_constant_map_can_be_drawn(tmp_path):
    case = case_of()
    constant = replace(case, novelty=np.ones_like(case.novelty))
    histograms(tmp_path / "histograms.png", [evaluate(constant, 8.0)])
    require_picture(tmp_path / "histograms.png")
