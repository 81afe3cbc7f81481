from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.evaluation.froc import Curve, froc

MASK = np.ones((12, 12, 12), bool)


def block(*corner: int, size: int = 2) -> np.ndarray:
    """A cube that begins at a corner."""
    inside = np.zeros(MASK.shape, bool)
    inside[tuple(slice(start, start + size) for start in corner)] = True
    return inside


def test_a_lesion_is_found_before_any_false_cluster_where_the_map_is_right():
    lesion = block(1, 1, 1) | block(6, 6, 6)
    curve = froc([lesion.astype(np.float32)], [lesion], [MASK])
    assert curve.lesions.tolist() == [2]
    assert curve.at(0) == 1.0


def test_clusters_elsewhere_are_false():
    novelty = 2.0 * block(1, 1, 1) + block(8, 8, 8)
    curve = froc([novelty.astype(np.float32)], [block(8, 8, 8)], [MASK])
    assert curve.at(0) == 0.0
    assert curve.at(1) == 1.0
    assert curve.false.max() == 1


@pytest.mark.parametrize(("reach", "found"), [(3, 1.0), (12, 0.0)])
def test_a_cluster_that_merely_touches_a_lesion_is_no_hit(reach: int, found: float):
    novelty = np.zeros(MASK.shape, np.float32)
    novelty[:reach, :reach, :reach] = 1.0  # the lesion and its rim are 27 voxels of it
    curve = froc([novelty], [block(0, 0, 0)], [MASK])
    assert curve.found.max() == found


def test_what_is_small_counts_neither_as_lesion_nor_as_cluster():
    lesion = block(1, 1, 1) | block(8, 8, 8, size=1)
    novelty = lesion + 2.0 * block(4, 4, 4, size=1)
    curve = froc([novelty.astype(np.float32)], [lesion], [MASK])
    assert curve.lesions.tolist() == [1]
    assert curve.at(0) == 1.0


def test_scans_count_together_at_one_threshold():
    low, high = (scale * block(1, 1, 1).astype(np.float32) for scale in (1.0, 5.0))
    curve = froc([low, high], [block(1, 1, 1)] * 2, [MASK] * 2)
    assert sorted(set(curve.found)) == [0.0, 0.5, 1.0]


def test_the_curve_of_some_scans_is_that_of_their_maps():
    lesion = block(1, 1, 1)
    right, wrong = (one.astype(np.float32) for one in (lesion, block(8, 8, 8)))
    curve = froc([right, wrong], [lesion] * 2, [MASK] * 2)
    assert curve.at(1) == 0.5
    assert curve.of(np.array([0, 0])).at(0) == 1.0
    assert curve.of(np.array([1])).at(1) == 0.0
    assert curve.of(np.array([0, 1, 1])).at(1) == pytest.approx(1 / 3)


def test_what_lies_outside_the_mask_is_neither_found_nor_false():
    lesion, inside = block(1, 1, 1), MASK.copy()
    inside[6:] = False
    novelty = lesion + 3.0 * block(8, 8, 8)
    curve = froc([novelty.astype(np.float32)], [lesion | block(8, 1, 1)], [inside])
    assert curve.lesions.tolist() == [1]
    assert curve.at(0) == 1.0
    assert curve.false.max() == 0


def test_where_nothing_is_wrong_there_is_nothing_to_find():
    curve = froc([block(1, 1, 1).astype(np.float32)], [np.zeros_like(MASK)], [MASK])
    assert curve.at(5) == 0.0
    assert curve.false.max() == 1


def test_a_lesion_that_leaves_the_mask_counts_whole():
    lesion, inside = block(5, 1, 1), MASK.copy()
    inside[6:] = False
    novelty = block(5, 1, 1) + block(4, 1, 1)
    curve = froc([novelty.astype(np.float32)], [lesion], [inside])
    assert curve.lesions.tolist() == [1]  # 4 of its 8 voxels lie within
    assert curve.at(0) == 1.0


def test_what_is_found_of_each_scan_adds_up_and_the_steps_agree():
    random = np.random.default_rng(0)
    lesions = [block(1, 1, 1) | block(6, 6, 6), block(8, 2, 2)]
    maps = [
        (random.gamma(1.0, size=MASK.shape) + (4 + 4 * random.random()) * one).astype(np.float32)
        for one in lesions
    ]
    curve = froc(maps, lesions, [MASK] * 2)
    assert len(np.unique(curve.found)) > 2
    false, found = curve.steps()
    for number in (0, 1, 2, 5):
        assert curve.hits_at(number).sum() / 3 == pytest.approx(curve.at(number))
        assert found[false <= number].max(initial=0.0) == pytest.approx(curve.at(number))
    assert (np.diff(found) >= 0).all() and (np.diff(false) >= 0).all()
    parts = [curve.of(np.array([at])) for at in range(2)]
    np.testing.assert_array_equal(Curve.joined(parts).hits, curve.hits)
    np.testing.assert_array_equal(Curve.joined(parts).found, curve.found)
