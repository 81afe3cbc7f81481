"""Heads from images of brain labels: tissue, place in ICBM152 space, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from dipy.core.gradients import gradient_table
from dipy.reconst.dti import TensorModel

from qspace_nd.errors import LabelError, ScanError
from qspace_nd.simulation.anatomy import icbm152_tissues
from qspace_nd.simulation.common_space import affine_to_icbm152, overlap
from qspace_nd.simulation.head import simulate_subject, standard_table
from qspace_nd.simulation.label_anatomy import (
    FLUID,
    GREY,
    MUSE,
    WHITE,
    anatomy_of,
    common_affine,
    read_labels,
    tissue_maps,
)
from tests.simulation.conftest import made_up_labels, write_labels

TABLE = standard_table(unweighted=2, directions=12)


def test_a_label_is_of_one_tissue():
    labels = [label for tissue in MUSE.values() for label in tissue]
    assert len(labels) == len(set(labels))
    assert (45 in MUSE[WHITE], 100 in MUSE[GREY], 51 in MUSE[FLUID]) == (True, True, True)


def test_tissue_maps_lie_where_the_labels_do(labelled):
    maps = tissue_maps(*read_labels(labelled / "P1_T1_labels.nii.gz"))
    tissues, affine = read_labels(labelled / "P1_T1_labels.nii.gz")
    nodes = np.argwhere(tissues > 0)[::50]
    there = (nodes @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32)
    assert np.mean(maps.at(there).argmax(axis=1) + 1 == tissues[tuple(nodes.T)]) > 0.9
    np.testing.assert_array_equal(maps.affine[:3, :3], np.eye(3))


def test_furrows_and_a_rim_are_fluid():
    tissues = np.zeros((40, 40, 40), np.uint8)
    tissues[10:30, 10:30, 10:30] = GREY + 1
    tissues[19:21, 20:30, 10:30] = 0
    maps = tissue_maps(tissues, np.diag([2.0, 2.0, 2.0, 1.0]))
    grey, fluid = maps.at(np.array([[30, 30, 30], [39, 52, 40], [39, 17, 17]], np.float32))[:, 1:].T
    assert (grey.round().tolist(), fluid.round().tolist()) == ([1, 0, 0], [0, 1, 0])
    assert maps.at(np.array([[18.4, 39, 39]], np.float32))[0, FLUID] > 0.5


def test_the_affine_to_icbm152_undoes_what_was_done_to_it(labelled):
    path = labelled / "P2_T1_labels.nii.gz"
    common = common_affine(path)
    np.testing.assert_allclose(common[:3, :3], np.eye(3) / 0.94, atol=0.02)
    _, affine = made_up_labels((40, 0, -9))
    first = affine[:3, 3] - [40, 0, -9]  # the first voxel before it was moved
    places = np.array([[0, 0, 0], [40, -60, 20], [-30, 30, 50]], float)
    own = affine[:3, 3] + 0.94 * (places - first)
    np.testing.assert_allclose(own @ common[:3, :3].T + common[:3, 3], places, atol=1.5)
    assert overlap(tissue_maps(*read_labels(path)), common) > 0.75


def test_maps_of_icbm152_itself_stay_in_place():
    np.testing.assert_allclose(affine_to_icbm152(icbm152_tissues()), np.eye(4), atol=0.02)


def test_a_head_is_the_persons_and_its_fibres_turn_with_it(labelled):
    anatomy = anatomy_of(labelled / "P3_T1_labels.nii.gz", 6.0)
    first, second = (simulate_subject(anatomy, TABLE, seed, snr=1000) for seed in (1, 2))
    assert np.array_equal(first.tissues, second.tissues)
    assert not np.array_equal(first.signal, second.signal)
    place = anatomy.in_common_space(anatomy.points())
    white = first.tissues[..., 0] > 0.7
    callosal = white & (np.abs(place[..., 0]) < 7) & (place[..., 2] > 5)
    stem = white & (np.abs(place[..., :2] - [0, -28]).max(axis=-1) < 9) & (place[..., 2] < -20)
    model = TensorModel(gradient_table(TABLE.bvals, bvecs=TABLE.directions))
    for where, axis in ((callosal, 0), (stem, 2)):
        assert np.median(np.abs(model.fit(first.signal[where]).evecs[:, axis, 0])) > 0.8


def _turned(labels, affine):
    return labels, np.diag([1.0, 1.0, -1.0, 1.0]) @ affine


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda labels, at: (labels * 1.3, at), r"hold\w* values that are no whole numbers"),
        (lambda labels, at: (np.where(labels == 100, 251, labels), at), r"does not have \(251\)"),
        (lambda labels, at: (labels[::2, ::2, ::2], at @ np.diag([2, 2, 2, 1])), "of 3 mm at most"),
        (lambda labels, at: (0 * labels, at), "no voxel of white matter; expected labels of a"),
        (lambda labels, at: (labels, 0.5 * at), r"labels \d+ cm³ of brain; expected a whole one"),
        (_turned, r"fits that of an upright head by \d+ % alone; expected 60 % at least"),
    ],
)
def test_what_are_no_labels_of_a_head_is_refused(change, message, tmp_path):
    labels, affine = change(*made_up_labels())
    kind = np.float32 if labels.dtype.kind == "f" else np.uint8
    path = write_labels(tmp_path / "x.nii.gz", labels.astype(kind), affine)
    with pytest.raises(LabelError, match=rf"x\.nii\.gz .*{message}"):
        common_affine(path)


def test_several_volumes_are_no_label_image(tmp_path):
    labels, affine = made_up_labels()
    path = write_labels(tmp_path / "x.nii.gz", np.stack([labels, labels], axis=-1), affine)
    with pytest.raises(ScanError, match=r"x\.nii\.gz has the shape .*; expected a 3-D image"):
        read_labels(path)


def test_real_people_lie_upright_in_icbm152_space(real_scans):
    folder = real_scans / "anatomy"
    if not folder.is_dir():
        pytest.skip(f"{folder} holds no label images")
    for path in sorted(folder.glob("*.nii.gz"))[::31]:
        anatomy = anatomy_of(path, 3.0)
        assert overlap(anatomy.maps, anatomy.common) > 0.65
        assert 0.9 < np.linalg.det(anatomy.common[:3, :3]) < 1.7
        white, grey, fluid = anatomy.maps.values.sum(axis=(1, 2, 3)) / 1000  # cm³
        assert 300 < white < 800 and 400 < grey < 900 and 100 < fluid < 600
