"""Tumours that push: where to, how far, and that the truth of it is written."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.arrays import Field
from qspace_nd.errors import InputError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.simulation.anatomy import Anatomy, icbm152_tissues, lattice_points
from qspace_nd.simulation.cohort import Simulation, simulate_cohort
from qspace_nd.simulation.head import simulate_subject
from qspace_nd.simulation.mass_effect import draw_tumour
from tests.simulation.conftest import SMALL, files_in

FINE = {**SMALL, "voxel_size": 5.0}


@pytest.mark.parametrize("millimetres", [3.0, 8.0, 15.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_tumour_pushes_by_what_is_asked_for_and_folds_nothing(millimetres, seed):
    tumour = draw_tumour(np.random.default_rng(seed), icbm152_tissues(), millimetres)
    assert 0.75 < np.linalg.norm(tumour.growth.values, axis=0).max() / millimetres <= 1.001
    slopes = np.moveaxis(tumour.growth.gradient().values, 0, -1)
    assert np.linalg.det(np.eye(3) + slopes.reshape(*slopes.shape[:3], 3, 3)).min() > 0
    mask, affine = tumour.lesions
    white = icbm152_tissues().values[0]
    assert mask.any() and white[mask].min() > 0.3
    middle = affine[:3, :3] @ np.argwhere(mask).mean(axis=0) + affine[:3, 3]
    around = np.array([[0, 0, 9], [0, 0, -9], [9, 0, 0]])
    push = tumour.growth.at((middle + around).astype(np.float32))
    assert (push[0, 2] < 0 < push[1, 2]) and push[2, 0] < 0  # it came from nearer the middle


def test_the_push_leads_to_the_same_head_without_the_tumour():
    simulation = Simulation(**FINE, mass_effect=10.0)
    patient = simulation.patient(0)
    assert patient.push is not None
    assert np.linalg.norm(patient.push, axis=-1).max() > 5
    # The same body without the tumour: its tissue where it lay before is that of the scan.
    anatomy = Anatomy.of_icbm152(FINE["voxel_size"])
    before = simulate_subject(anatomy, simulation.table, simulation._seed(1, 0))
    maps = Field(np.moveaxis(before.tissues, -1, 0), before.affine)
    points = lattice_points(patient.mask.shape, patient.affine)
    error = maps.at(points + patient.push)[..., 0] - patient.tissues[..., 0]
    near = patient.mask & (np.linalg.norm(patient.push, axis=-1) > 2)
    unmoved = maps.at(points)[..., 0] - patient.tissues[..., 0]
    assert np.abs(error[near]).mean() < 0.6 * np.abs(unmoved[near]).mean()


@pytest.mark.parametrize("layout", ["bids", "flat"])
def test_the_truth_is_written_beside_the_masks(layout, labelled, tmp_path):
    settings = {**SMALL, "anatomies": labelled, "layout": layout}
    simulate_cohort(tmp_path, controls=1, patients=1, mass_effect=6.0, **settings)
    (push,) = [name for name in files_in(tmp_path) if "beforeGrowth" in name]
    if layout == "bids":
        assert (tmp_path / "derivatives/masks/.bidsignore").read_text() == "*_xfm.nii.gz\n"
    image = nib.load(tmp_path / push)
    assert image.shape[3] == 3 and 3 < np.abs(image.get_fdata()).max() < 6.01
    white, grey, fluid = (
        read_volume(tmp_path / push.replace(push.split("_", 1)[1], f"label-{name}_probseg.nii.gz"))[
            0
        ]
        for name in ("WM", "GM", "CSF")
    )
    assert (white + grey + fluid).max() < 1.01 and white.max() > 0.9


@pytest.mark.parametrize("wrong", [-1.0, 15.5, float("nan")])
def test_a_mass_effect_out_of_range_is_refused(wrong):
    with pytest.raises(InputError, match=r"mass effect is .* mm; choose one between 0 and 15 mm"):
        Simulation(mass_effect=wrong)


def test_lesion_masks_and_a_tumour_exclude_each_other():
    with pytest.raises(InputError, match="give lesion masks or a mass effect, not both"):
        Simulation(mass_effect=5.0, lesion_masks=[(np.ones((2, 2, 2), bool), np.eye(4))])
