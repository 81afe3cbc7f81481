from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from qspace_nd.evaluation import curves
from qspace_nd.evaluation.curves import froc_plot, precision_plot, roc_plot
from qspace_nd.evaluation.froc import FALSE_CLUSTERS, froc
from qspace_nd.evaluation.metrics import Result, evaluate
from tests.evaluation.conftest import case_of, random_case, require_picture, results_of

LONG = "latent-placed-directed-distance, toward demyelination, without the place, 6 mm"


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def with_curves(patients: int = 3, score: str = "latent-distance") -> list[Result]:
    """Results that know what all their maps show together."""
    cases = [random_case(seed, f"sub-{seed}", score=score) for seed in range(patients)]
    curve = froc(*zip(*((one.novelty, one.labels, one.mask) for one in cases), strict=True))
    return [
        replace(evaluate(one, 8.0), froc=curve.of(np.array([at]))) for at, one in enumerate(cases)
    ]


def test_the_roc_plot_names_each_score_with_its_mean_auc_and_draws_chance(tmp_path, figures):
    results = results_of(["input-distance", "latent-distance"], 3)
    roc_plot(tmp_path / "roc.png", results)
    require_picture(tmp_path / "roc.png")
    mean = np.mean([one.auc for one in results[3:]])
    assert f"latent-distance  {mean:.3f}" in legend_of(figures[0])
    assert any(label.startswith("input-distance (baseline)") for label in legend_of(figures[0]))
    assert "chance  0.500" in legend_of(figures[0])
    assert [len(axes.lines) for axes in figures[0].axes] == [2 * (1 + 3) + 1] * 2


def test_a_panel_shows_where_few_healthy_voxels_are_above_the_threshold(tmp_path, figures):
    roc_plot(tmp_path / "roc.png", results_of(["latent-distance"], 1))
    whole, part = figures[0].axes
    assert (whole.get_xlim()[1], part.get_xlim()) == (1.005, (0, 0.05))


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


def test_precision_is_that_of_the_voxels_above_each_threshold():
    case = random_case()
    recall, precision = curves._precision(evaluate(case, 8.0))
    novelty, lesion = case.novelty[case.mask], case.labels[case.mask]
    for threshold in np.sort(novelty[lesion])[::7]:
        above = novelty >= threshold
        at = np.argmin(np.abs(recall - above[lesion].mean()))
        if recall[at] == above[lesion].mean():  # else it was thinned out
            assert precision[at] == pytest.approx(lesion[above].mean(), abs=0.02)
    assert recall[-1] == 1 and (np.diff(recall) > 0).all()


def test_precision_and_recall_are_drawn_with_chance_in_each_region(tmp_path, figures):
    brain = results_of(["latent-distance"], 2)
    part = [replace(one, region="white_matter", lesion_voxels=one.voxels // 4) for one in brain]
    precision_plot(tmp_path / "one.png", brain)
    precision_plot(tmp_path / "two.png", [*brain, *part])
    require_picture(tmp_path / "two.png")
    mean = np.mean([one.average_precision for one in brain])
    assert legend_of(figures[0])[0] == f"latent-distance  {mean:.3f}"
    share = np.mean([one.lesion_voxels / one.voxels for one in brain])
    assert legend_of(figures[0])[-1] == f"chance  {share:.3f}"
    assert legend_of(figures[1])[-2:] == [
        f"chance, brain  {share:.3f}",
        "chance, white_matter  0.250",
    ]


def test_the_froc_plot_shows_what_its_legend_says(tmp_path, figures):
    results = with_curves()
    froc_plot(tmp_path / "froc.png", results)
    require_picture(tmp_path / "froc.png")
    (label,) = legend_of(figures[0])
    told = [float(word) for word in label.removeprefix("latent-distance  ").split(", ")]
    line = max(figures[0].axes[0].lines, key=lambda one: one.get_linewidth())
    false, found = line.get_data()
    shown = [found[false <= number].max(initial=0.0) for number in FALSE_CLUSTERS]
    assert told == pytest.approx(shown, abs=0.005)
    assert max(told) > 0


@pytest.mark.parametrize("draw", [roc_plot, precision_plot, froc_plot])
def test_long_names_lie_within_the_picture(draw, tmp_path, figures):
    draw(tmp_path / "figure.png", with_curves(score=LONG))
    (figure,) = figures
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0
    assert box.y1 <= figure.axes[0].get_window_extent().y0  # and cover nothing
