from __future__ import annotations

from unittest.mock import MagicMock, call

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.diffusion.fsl import read_gradients, write_gradients
from qspace_nd.errors import GradientError, InputError, LabelError, OutputError, ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import read_volume, write_volume
from qspace_nd.simulation.anatomy import Anatomy
from qspace_nd.simulation.cohort import Simulation, read_table, simulate_cohort
from tests.simulation.conftest import SMALL, TABLE, files_in


@pytest.fixture
def lesion_mask(tmp_path):
    affine = np.diag([-2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [90.0, -126.0, -72.0]
    mask = np.zeros((91, 109, 91), bool)
    mask[26:36, 50:62, 46:56] = True
    write_volume(tmp_path / "mask.nii.gz", mask, Grid(mask.shape, affine))
    return tmp_path / "mask.nii.gz"


def test_both_layouts_hold_the_same_subjects(bids, flat):
    for ours, theirs in zip(bids[1].patients, flat[1].patients, strict=True):
        assert np.array_equal(nib.load(ours).get_fdata(), nib.load(theirs).get_fdata())


def test_a_file_holds_what_the_simulation_in_memory_gives(flat):
    _, cohort = flat
    subject = Simulation(**SMALL).patient(0)
    image = nib.load(cohort.patients[0])
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(image.affine, subject.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.rint(subject.signal))
    for path, expected in (
        (cohort.labels[0], subject.labels),
        (cohort.white_matter[0], subject.white_matter),
        (cohort.patient_masks[0], subject.mask),
    ):
        assert np.array_equal(nib.load(path).get_fdata(), expected)


def test_a_subject_does_not_depend_on_how_many_others_there_are(flat, tmp_path):
    alone = simulate_cohort(tmp_path, controls=1, patients=0, layout="flat", **SMALL)
    assert alone.controls[0].read_bytes() == flat[1].controls[0].read_bytes()


def test_another_seed_gives_other_subjects():
    first, other = (Simulation(**SMALL, seed=seed).control(0).signal for seed in (0, 1))
    assert not np.array_equal(first, other)


def test_lesions_are_taken_from_the_masks_in_turn(lesion_mask, tmp_path):
    cohort = simulate_cohort(
        tmp_path / "cohort", controls=0, patients=2, lesion_masks=[lesion_mask], **SMALL
    )
    for path in cohort.labels:
        labels, grid = read_volume(path)
        centre = grid.affine @ [*np.argwhere(labels > 0).mean(axis=0), 1.0]
        np.testing.assert_allclose(centre[:3], [29, -15, 29], atol=6)  # of the box in the mask


def test_a_lesion_too_small_for_the_voxels_is_warned_of(tmp_path, caplog):
    mask = np.zeros((40, 40, 40), bool)
    mask[20, 20, 20] = True
    write_volume(tmp_path / "dot.nii.gz", mask, Grid(mask.shape, np.eye(4)))
    masks = [tmp_path / "dot.nii.gz"]
    simulate_cohort(tmp_path / "cohort", controls=0, lesion_masks=masks, **SMALL)
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("qspace_nd.simulation.cohort", "WARNING")
    assert "no voxel of 8 mm is lesion by half; take smaller voxels" in record.message


def test_progress_counts_the_subjects(tmp_path):
    progress = MagicMock()
    simulate_cohort(tmp_path, controls=2, patients=0, progress=progress, **SMALL)
    progress.task.assert_called_once_with("Simulating", 2)
    task = progress.task.return_value.__enter__.return_value
    assert task.advance.call_args_list == [call(note="sub-control01"), call(note="sub-control02")]


def test_what_exists_is_replaced_only_with_force(tmp_path):
    there = tmp_path / "patient.nii.gz"
    there.write_text("mine")
    with pytest.raises(OutputError, match=r"patient\.nii\.gz exists already"):
        simulate_cohort(tmp_path, controls=1, layout="flat", **SMALL)
    assert files_in(tmp_path) == {"patient.nii.gz"}
    assert there.read_text() == "mine"
    simulate_cohort(tmp_path, controls=0, layout="flat", force=True, **SMALL)
    assert nib.load(there).shape[3] == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layout": "tree"}, "There is no layout 'tree'; choose one of bids, flat"),
        ({"kind": "odd"}, "There is no kind of lesion 'odd'; choose one of demyelinating, restr"),
        ({"controls": 0, "patients": 0}, "0 controls and 0 patients make no cohort"),
        ({"controls": -1}, "-1 controls and 1 patients make no cohort"),
        ({"voxel_size": 0.1}, "voxel size is 0.1 mm"),
        ({"snr": 0.0}, "signal-to-noise ratio is 0.0"),
        ({"seed": -1}, "seed is -1; give one from 0 up"),
    ],
)
def test_a_wrong_setting_is_refused_before_anything_is_written(wrong, message, tmp_path):
    with pytest.raises(InputError, match=message):
        simulate_cohort(tmp_path / "cohort", **{**SMALL, **wrong})
    assert not (tmp_path / "cohort").exists()


def test_a_lesion_mask_that_is_absent_or_empty_is_refused(tmp_path):
    with pytest.raises(ScanError, match="does not exist"):
        simulate_cohort(tmp_path / "cohort", lesion_masks=[tmp_path / "no.nii.gz"], **SMALL)
    empty = tmp_path / "empty.nii.gz"
    write_volume(empty, np.zeros((4, 4, 4), bool), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(LabelError, match=r"empty\.nii\.gz has no lesion voxel; expected a lesion"):
        simulate_cohort(tmp_path / "cohort", lesion_masks=[empty], **SMALL)
    assert not (tmp_path / "cohort").exists()


def test_a_protocol_read_from_files_is_simulated_as_it_stands(tmp_path):
    protocol = (tmp_path / "p.bval", tmp_path / "p.bvec")
    write_gradients(*protocol, TABLE, np.diag([-8.0, 8.0, 8.0, 1.0]))
    table = read_table(*protocol)
    cohort = simulate_cohort(
        tmp_path / "cohort", controls=1, patients=0, voxel_size=8.0, table=table
    )
    written = cohort.controls[0].with_name("sub-control01_dwi.bvec")
    assert written.read_bytes() == protocol[1].read_bytes()
    again = read_gradients(protocol[0], written, nib.load(cohort.controls[0]).affine, 7)
    np.testing.assert_allclose(again.directions, TABLE.directions, atol=2e-6)


def test_a_protocol_without_its_files_is_refused(tmp_path):
    with pytest.raises(GradientError, match=r"p\.bval does not exist"):
        read_table(tmp_path / "p.bval", tmp_path / "p.bvec")


def test_real_lesion_masks_land_in_white_matter(real_scans, tmp_path):
    masks = [real_scans / "ms" / "lesion_masks_mni" / "patient06.nii.gz"]
    cohort = simulate_cohort(
        tmp_path, controls=0, patients=1, lesion_masks=masks, voxel_size=4.0, table=TABLE
    )
    labels, white = (read_volume(p[0])[0] > 0 for p in (cohort.labels, cohort.white_matter))
    volume = labels.sum() * 4.0**3
    assert 0.4 < volume / (read_volume(masks[0])[0] > 0).sum() < 1.2
    assert (labels & white).sum() > 0.5 * labels.sum()


def test_where_a_controls_head_lies_in_the_common_space_is_the_truth():
    """The tissue of a head is that of ICBM152 at its common places."""
    simulation = Simulation(voxel_size=6.0, table=TABLE, seed=3)
    subject = simulation.control(1)
    anatomy = Anatomy.of_icbm152(6.0)
    places = simulation.common_places(1, anatomy.points())
    assert np.linalg.norm(places - anatomy.points(), axis=-1).mean() > 1.0
    expected = np.clip(anatomy.tissues.at(places), 0.0, 1.0)
    np.testing.assert_allclose(subject.tissues, expected, atol=1e-5)
