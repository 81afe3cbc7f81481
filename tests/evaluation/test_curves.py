from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from qspace_nd.errors import ArrayError, InputError
from qspace_nd.evaluation import curves
from qspace_nd.evaluation.curves import histograms, roc_plot, slices
from qspace_nd.evaluation.metrics import Case, Result, evaluate


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are written, to look at what is in them."""
    seen: list[Figure] = []
    draw = curves._drawing

    @contextmanager
    def drawing(*arguments: Any) -> Iterator[Figure]:
        with draw(*arguments) as figure:
            yield figure
        seen.append(figure)

    monkeypatch.setattr(curves, "_drawing", drawing)
    return seen


def case_of(seed: int = 0, **others: Any) -> Case:
    random = np.random.default_rng(seed)
    mask = np.zeros((14, 12, 10), bool)
    mask[2:-2, 2:-2, 1:-1] = True
    labels = np.zeros_like(mask)
    labels[3:5, 7:9, 6] = labels[3, 7, 5] = True
    novelty = random.gamma(2.0, 1.0, mask.shape) + 2 * labels
    names = {"patient": f"sub-{seed}", "score": "latent-distance", "latents": 8} | others
    return Case(novelty=novelty.astype(np.float32), labels=labels, mask=mask, **names)


def results_of(scores: list[str], patients: int) -> list[Result]:
    return [
        evaluate(case_of(seed, score=score), 8.0) for score in scores for seed in range(patients)
    ]


def require_picture(path: Path) -> None:
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 200
    assert np.ptp(pixels[..., :3]) > 0.5


def legend_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


# -------------------------------------------------------------------------------------- the ROC


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
    false, true = curves._mean_curve(results)
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
    assert legend[7].startswith("5 others, up to 0.667")


# ------------------------------------------------------------------------------- the histograms


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


def test_latents_are_named_where_they_differ(tmp_path, figures):
    one = evaluate(case_of(), 8.0)
    histograms(tmp_path / "histograms.png", [one, replace(one, latents=16)])
    titles = [axes.get_title("left") for axes in figures[0].axes]
    assert titles == ["latent-distance, 8 latents", "latent-distance, 16 latents"]


def test_a_density_holds_its_class_but_for_what_lies_beyond_the_axis():
    random = np.random.default_rng(0)
    values = np.sort(np.exp(3 * random.normal(size=5_000)))
    heavy = curves._Values.pooled([(values, 90_000), (values[:100], 100)])
    edges = curves._bin_edges(heavy, heavy)
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
    constant = evaluate(replace(case, novelty=np.ones_like(case.novelty)), 8.0)
    histograms(tmp_path / "histograms.png", [constant])
    slices(tmp_path / "slices.png", replace(case, novelty=np.ones_like(case.novelty)), np.eye(4))
    require_picture(tmp_path / "histograms.png")


@pytest.mark.parametrize("draw", [roc_plot, histograms])
def test_nothing_to_draw_is_refused_and_nothing_written(tmp_path, draw):
    with pytest.raises(InputError, match="no result to draw; evaluate at least one map"):
        draw(tmp_path / "figure.png", [])
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------- the slices


def test_the_slices_show_scan_label_and_map_beside_a_colour_bar(tmp_path, figures):
    case = case_of()
    slices(tmp_path / "slices.png", case, np.eye(4), np.ones(case.mask.shape))
    require_picture(tmp_path / "slices.png")
    assert [axes.get_title() for axes in figures[0].axes[:3]] == [
        "b = 0",
        "expert label",
        "latent-distance",
    ]
    assert figures[0].axes[3].get_ylabel() == "novelty"
    assert "z = 6 mm" in figures[0].get_supxlabel()
    assert "Radiological convention" in figures[0].get_supxlabel()


def test_without_a_scan_there_are_two_panels(tmp_path, figures):
    slices(tmp_path / "slices.png", case_of(), np.eye(4))
    titles = [axes.get_title() for axes in figures[0].axes[:2]]
    assert titles == ["expert label", "latent-distance"]


def test_the_patients_left_is_on_the_right_and_the_front_is_up(tmp_path, figures):
    case = case_of()  # with this affine x rises to the right, y to the front
    left_front = np.zeros_like(case.labels)
    left_front[2, 9, 6] = True
    case = replace(case, labels=left_front, novelty=left_front.astype(np.float32))
    slices(tmp_path / "slices.png", case, np.eye(4))
    shown = np.nan_to_num(np.asarray(figures[0].axes[1].images[0].get_array()).astype(float))
    row, column = np.argwhere(shown == 1)[0]
    assert row < shown.shape[0] / 2 and column > shown.shape[1] / 2
    letters = [(text.get_text(), text.get_position()[0]) for text in figures[0].axes[1].texts]
    assert letters == [("R", 0.03), ("L", 0.97)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_picture_does_not_depend_on_how_the_volume_is_stored(order, flipped):
    affine = np.diag([2.0, 2.5, 4.0, 1.0])
    affine[:3, :3] = _rotation(0.2) @ affine[:3, :3]
    case = case_of()
    store = np.eye(4)[:, [*order, 3]]  # from stored indices to the case's
    for axis in flipped:
        store[order[axis], axis] = -1
        store[order[axis], 3] = case.mask.shape[order[axis]] - 1
    stored = {
        name: np.flip(getattr(case, name).transpose(order), flipped)
        for name in ("novelty", "labels", "mask")
    }
    here = curves._AxialView.of(case, affine)
    there = curves._AxialView.of(replace(case, **stored), affine @ store)
    np.testing.assert_array_equal(there.plane(stored["novelty"]), here.plane(case.novelty))
    assert there.extent == pytest.approx(here.extent)
    assert there.height == pytest.approx(here.height)


def test_anisotropic_voxels_keep_their_shape():
    case = case_of()
    view = curves._AxialView.of(case, np.diag([1.0, 3.0, 2.0, 1.0]))
    rows, columns = view.plane(case.mask).shape
    assert view.size == (columns * 1.0, rows * 3.0)


def test_the_slice_is_the_one_with_most_lesion_voxels_in_the_mask():
    case = case_of()
    assert curves._AxialView.of(case, np.eye(4)).index == 6
    without = case.mask.copy()
    without[:, :, 6] = False
    assert curves._AxialView.of(replace(case, mask=without), np.eye(4)).index == 5


def test_a_background_or_affine_that_does_not_fit_is_refused(tmp_path):
    case = case_of()
    with pytest.raises(ArrayError, match=r"background of sub-0 has shape \(2, 2, 2\) .* one grid"):
        slices(tmp_path / "slices.png", case, np.eye(4), np.ones((2, 2, 2)))
    with pytest.raises(ArrayError, match="give an invertible 4 × 4 matrix"):
        slices(tmp_path / "slices.png", case, np.zeros((4, 4)))
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    "QSPACE_ND_DATA" not in os.environ, reason="QSPACE_ND_DATA does not name the data folder"
)
def test_a_real_patient_is_drawn(tmp_path, figures):
    import nibabel

    folder = Path(os.environ["QSPACE_ND_DATA"]) / "ms"
    image = nibabel.load(folder / "patient07_multicontrast.nii.gz")
    mask, labels = (
        np.asarray(nibabel.load(folder / f"patient07_desc-{name}_mask.nii.gz").dataobj) > 0
        for name in ("brain", "lesion")
    )
    flair = np.asarray(image.dataobj[..., 0], dtype=np.float32)
    case = Case("patient07", "flair", flair, labels, mask)
    assert 0.5 < evaluate(case, 8.0).auc < 1
    slices(tmp_path / "slices.png", case, image.affine, flair, background_name="FLAIR")
    require_picture(tmp_path / "slices.png")
    assert figures[0].axes[0].get_title() == "FLAIR"


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ np.array(
        [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    )
