from __future__ import annotations

import itertools
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from qspace_nd.errors import ArrayError
from qspace_nd.evaluation import slices as module
from qspace_nd.evaluation.metrics import Case, evaluate
from qspace_nd.evaluation.slices import slices
from tests.evaluation.conftest import case_of, require_picture


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
    here = module._AxialView.of(case, affine)
    there = module._AxialView.of(replace(case, **stored), affine @ store)
    np.testing.assert_array_equal(there.plane(stored["novelty"]), here.plane(case.novelty))
    assert there.extent == pytest.approx(here.extent)
    assert there.height == pytest.approx(here.height)


def test_anisotropic_voxels_keep_their_shape():
    case = case_of()
    view = module._AxialView.of(case, np.diag([1.0, 3.0, 2.0, 1.0]))
    rows, columns = view.plane(case.mask).shape
    assert view.size == (columns * 1.0, rows * 3.0)


def test_the_slice_is_the_one_with_most_lesion_voxels_in_the_mask():
    case = case_of()
    assert module._AxialView.of(case, np.eye(4)).index == 6
    without = case.mask.copy()
    without[:, :, 6] = False
    assert module._AxialView.of(replace(case, mask=without), np.eye(4)).index == 5


def test_a_background_or_affine_that_does_not_fit_is_refused(tmp_path):
    case = case_of()
    with pytest.raises(ArrayError, match=r"background of sub-0 has shape \(2, 2, 2\) .* one grid"):
        slices(tmp_path / "slices.png", case, np.eye(4), np.ones((2, 2, 2)))
    with pytest.raises(ArrayError, match="give an invertible 4 × 4 matrix"):
        slices(tmp_path / "slices.png", case, np.zeros((4, 4)))
    assert not list(tmp_path.iterdir())


def test_a_constant_map_can_be_drawn(tmp_path):
    case = case_of()
    slices(tmp_path / "slices.png", replace(case, novelty=np.ones_like(case.novelty)), np.eye(4))
    require_picture(tmp_path / "slices.png")


def test_a_value_far_beyond_the_window_can_be_drawn(tmp_path):
    case = case_of()
    novelty = case.novelty.copy()
    novelty[case.labels] = 3e38
    slices(tmp_path / "slices.png", replace(case, novelty=novelty), np.eye(4))
    require_picture(tmp_path / "slices.png")


def test_a_real_patient_is_drawn(real_scans, tmp_path, figures):
    folder = real_scans / "ms"
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
