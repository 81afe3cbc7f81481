from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from qspace_nd.evaluation import curves
from qspace_nd.evaluation.curves import roc_plot
from qspace_nd.evaluation.metrics import evaluate
from tests.evaluation.conftest import case_of, require_picture, results_of


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_roc_plot_names_each_score_with_its_mean_auc_and_draws_chance(tmp_path, figures):
    results = results_of(["input-distance", "latent-distance"], 3)
    roc_plot(tmp_path / "roc.png", results)
    require_picture(tmp_path / "roc.png")
    mean = np.mean([one.auc for one in results[3:]])
    assert f"latent-distance  {mean:.3f}" in legend_of(figures[0])
    assert any(label.startswith("input-distance (baseline)") for label in legend_of(figures[0]))
    assert "chance  0.500" in legend_of(figures[0])
    assert len(figures[0].axes[0].lines) == 2 * (1 + 3) + 1


def test_the_mean_curve_has_the_mean_area():
    results = results_of(["latent-distance"], 4)
    false, true = curves._mean_roc(results)
    area = np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2)
    assert area == pytest.approx(np.mean([one.auc for one in results]), abs=5e-3)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)


def test_of_many_scores_the_best_and_the_baseline_are_coloured_and_the_others_counted(
    tmp_path, figures
):
    names = ["input-distance", *(f"score-{at}" for at in range(11))]
    one = evaluate(case_of(), 8.0)
    scored = [replace(one, score=name, auc=0.5 + at / 30) for at, name in enumerate(names)]
    roc_plot(tmp_path / "roc.png", scored)
    legend = legend_of(figures[0])
    assert legend[0].startswith("score-10") and legend[5].startswith("score-5")
    assert legend[6].startswith("input-distance")
    assert legend[7].startswith("5 others")
