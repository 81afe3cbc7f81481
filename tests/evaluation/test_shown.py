from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qspace_nd.errors import ArrayError, InputError
from qspace_nd.evaluation.shown import Shown
from tests.evaluation.conftest import case_of


def shown_of(**others: object) -> Shown:
    case = case_of()
    return Shown(
        **(
            {"novelty": case.novelty, "mask": case.mask, "affine": np.eye(4), "share": 0.05}
            | others
        )
    )


def test_with_healthy_peoples_maps_the_scale_is_the_share_of_healthy_voxels() -> None:
    neglogp = case_of().novelty / 2
    scale = shown_of(neglogp=neglogp, share=0.01).scale()
    assert (scale.low, scale.high) == (2, 4)
    assert scale.ticks == {2.0: "1 %", 3: "0.1 %", 4: "0.01 %"}
    assert "healthy voxels" in scale.label
    scale = shown_of(neglogp=neglogp, share=0.0005).scale()
    assert scale.low == pytest.approx(3.30103)
    assert (scale.high, [*scale.ticks.values()]) == (scale.low + 1, ["0.05 %", "0.01 %"])


def test_without_them_the_highest_two_hundredths_of_the_map_are_coloured() -> None:
    shown = shown_of()
    scale = shown.scale()
    inside = shown.novelty[shown.mask]
    assert (scale.low, scale.high) == pytest.approx(np.percentile(inside, [98, 99.9]).tolist())
    assert scale.label == "novelty, above the 98th\npercentile of this map"
    coloured = shown.coloured(scale.low)
    assert coloured.sum() == np.count_nonzero(inside > scale.low)
    assert not (coloured & ~shown.mask).any()


@pytest.mark.parametrize("value", [0.0, -3.0, 1e30, np.nan])
def test_a_map_of_one_value_has_a_scale_and_no_colour(value: float) -> None:
    shown = shown_of(novelty=np.full(case_of().mask.shape, value))
    scale = shown.scale()
    assert scale.low < scale.high
    assert not shown.coloured(scale.low).any()
    assert not shown.interest(scale).any()


def test_voxels_that_are_no_numbers_are_not_coloured() -> None:
    novelty = case_of().novelty.copy()
    novelty[5] = np.nan
    shown = shown_of(novelty=novelty)
    scale = shown.scale()
    assert np.isfinite([scale.low, scale.high]).all()
    assert not shown.coloured(scale.low)[5].any()
    assert np.isfinite(shown.interest(scale)).all()


def test_of_most_interest_is_the_largest_cluster_not_the_most_voxels() -> None:
    neglogp = np.zeros((20, 20, 30))
    neglogp[4:8, 4:8, 10] = 3.0  # one cluster of 16 voxels
    neglogp[1:19:3, 1:19:3, 20] = 3.0  # 36 voxels by themselves
    neglogp[1:3, 1:4, 25] = neglogp[10:12, 1:4, 25] = neglogp[1:3, 10:13, 25] = 3.0  # 18 in three
    shown = shown_of(novelty=neglogp, neglogp=neglogp, mask=np.ones(neglogp.shape, bool))
    interest = shown.interest(shown.scale()).sum(axis=(0, 1))
    assert interest.argmax() == 10
    assert interest[20] == 0
    assert interest.sum() == pytest.approx(1)
    labels = np.zeros(neglogp.shape, bool)
    labels[5, 5, 3] = True
    labelled = replace(shown, labels=labels)
    assert labelled.interest(shown.scale()).sum(axis=(0, 1)).argmax() == 3


def test_the_face_is_not_shown() -> None:
    mask = np.zeros((40, 40, 10), bool)
    mask[10:30, 10:30] = True
    head = np.full(mask.shape, 100.0)
    head[0, 0, 0] = np.nan
    shown = Shown(head, mask, np.diag([2.0, 2.0, 2.0, 1.0]), 0.05, anatomy=head)
    ground = shown.ground()
    assert (ground[8:32, 12:28] == 1).all()  # two voxels around the brain
    assert not ground[:8].any() and not ground[32:].any()


def test_an_empty_scan_is_black_and_none_is_grey_in_the_brain() -> None:
    empty = np.zeros(case_of().mask.shape)
    assert not shown_of(anatomy=empty).ground().any()
    ground = shown_of().ground()
    assert (ground[case_of().mask] > 0).all()
    assert not ground[~case_of().mask].any()


@pytest.mark.parametrize(
    ("others", "says"),
    [
        ({"novelty": np.ones((3, 3))}, r"has the shape \(3, 3\); give a volume"),
        ({"anatomy": np.ones((2, 2, 2))}, r"anatomy has the shape \(2, 2, 2\) and the map .*grid"),
        ({"labels": np.ones((2, 2, 2), bool)}, "labels has the shape"),
        ({"affine": np.zeros((4, 4))}, "give an invertible 4 × 4 matrix"),
        ({"affine": np.eye(3)}, "give an invertible 4 × 4 matrix"),
        ({"mask": np.zeros(case_of().mask.shape, bool)}, "The mask is empty"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(others: dict[str, object], says: str) -> None:
    with pytest.raises(ArrayError, match=says):
        shown_of(**others)


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="share is 5; a share between 0 and 1 is wanted"):
        shown_of(share=5)
