from __future__ import annotations

from dataclasses import replace

import pytest

from qspace_nd.errors import InputError
from qspace_nd.evaluation.curves import roc_plot
from qspace_nd.evaluation.figures import by_name, drawing
from qspace_nd.evaluation.histograms import histograms
from qspace_nd.evaluation.metrics import evaluate
from tests.evaluation.conftest import case_of


@pytest.mark.parametrize("draw", [roc_plot, histograms])
def test_nothing_to_draw_is_refused_and_nothing_written(tmp_path, draw):
    with pytest.raises(InputError, match="no result to draw; evaluate at least one map"):
        draw(tmp_path / "figure.png", [])
    assert not list(tmp_path.iterdir())


def test_latents_and_regions_are_named_where_they_differ():
    one = evaluate(case_of(), 8.0)
    assert list(by_name([one])) == ["latent-distance"]
    baseline = replace(one, score="input-distance", latents=None)
    within = replace(one, region="within")
    assert list(by_name([one, baseline, within])) == [
        "latent-distance, brain",
        "input-distance, brain",
        "latent-distance, within",
    ]
    assert list(by_name([one, replace(one, latents=16)])) == [
        "latent-distance, 8 latents",
        "latent-distance, 16 latents",
    ]


def test_a_figure_is_written_whole_or_not_at_all(tmp_path):
    with pytest.raises(ZeroDivisionError), drawing(tmp_path / "figure.png", 2, 2):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_the_style_is_put_back_after_a_figure(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    with drawing(tmp_path / "figure.png", 2, 2) as figure:
        figure.add_subplot().set_title("costs $5 or $6")  # no mathematics
    assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "figure.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
