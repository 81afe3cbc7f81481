from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from qspace_nd.errors import ArrayError, LabelError, ScanError
from qspace_nd.evaluation import metrics as module
from qspace_nd.evaluation.metrics import SIZE_EDGES, Case, evaluate
from tests.evaluation.conftest import random_case

untimed = settings(deadline=None, max_examples=60)  # the first example imports scikit-learn


def case_of(novelty: Any, labels: Any, score: str = "latent-distance") -> Case:
    """Put voxels in a row with gaps between, so that every lesion voxel is a lesion of its own."""
    novelty, labels = np.asarray(novelty, dtype=np.float32), np.asarray(labels, dtype=bool)
    row = (2 * len(novelty), 1, 1)
    volume, label, mask = np.zeros(row, np.float32), np.zeros(row, bool), np.zeros(row, bool)
    volume[::2, 0, 0], label[::2, 0, 0], mask[::2] = novelty, labels, True
    return Case("sub-01", score, volume, label, mask)


# -------------------------------------------------------------------------------- naive oracles


def naive_auc(novelty: NDArray[Any], lesion: NDArray[np.bool_]) -> float:
    pairs = [(a, b) for a in novelty[lesion] for b in novelty[~lesion]]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def naive_average_precision(novelty: NDArray[Any], lesion: NDArray[np.bool_]) -> float:
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(novelty.tolist()), reverse=True):
        chosen = novelty >= threshold
        recall = (chosen & lesion).sum() / lesion.sum()
        total += (recall - recall_before) * (chosen & lesion).sum() / chosen.sum()
        recall_before = recall
    return float(total)


def naive_dice(novelty: NDArray[Any], lesion: NDArray[np.bool_], threshold: float) -> float:
    chosen = novelty >= threshold
    return float(2 * (chosen & lesion).sum() / (chosen.sum() + lesion.sum()))


@st.composite
def voxels(draw: st.DrawFn) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Few distinct values, so that ties are common, and both classes."""
    size = draw(st.integers(2, 40))
    novelty = draw(arrays(np.int8, size, elements=st.integers(-9, 9))).astype(np.float32) / 4
    lesion = draw(arrays(np.bool_, size))
    lesion[0], lesion[-1] = True, False
    return novelty, lesion


@untimed
@given(voxels())
def test_auc_is_the_probability_that_a_lesion_voxel_is_more_novel_with_half_the_ties(given_voxels):
    novelty, lesion = given_voxels
    assert evaluate(case_of(novelty, lesion), 1.0).auc == pytest.approx(naive_auc(novelty, lesion))


@untimed
@given(voxels())
def test_average_precision_is_the_sum_of_precision_times_recall_steps(given_voxels):
    novelty, lesion = given_voxels
    found = evaluate(case_of(novelty, lesion), 1.0).average_precision
    assert found == pytest.approx(naive_average_precision(novelty, lesion))


@untimed
@given(voxels())
def test_best_dice_is_the_best_over_all_thresholds_and_holds_at_its_own(given_voxels):
    novelty, lesion = given_voxels
    result = evaluate(case_of(novelty, lesion), 1.0)
    assert result.best_dice == pytest.approx(max(naive_dice(novelty, lesion, t) for t in novelty))
    assert result.best_dice == pytest.approx(naive_dice(novelty, lesion, result.dice_threshold))


@untimed
@given(voxels(), st.integers(0, 100))
def test_overlaps_are_those_of_the_voxels_above_each_threshold(given_voxels, seed):
    novelty, lesion = given_voxels
    neglogp = np.random.default_rng(seed).uniform(0, 4, len(novelty)).astype(np.float32)
    case = case_of(novelty, lesion)
    volume = np.zeros(case.novelty.shape, np.float32)
    volume[::2, 0, 0] = neglogp
    result = evaluate(replace(case, neglogp=volume), 1.0)
    above = {
        "best_dice": novelty >= np.float32(result.dice_threshold),
        "1pct": novelty > np.float32(result.threshold_1pct),
        "p_0.01": 10.0**-neglogp < 0.01,
        "p_0.001": 10.0**-neglogp < 0.001,
    }
    assert result.overlaps.keys() == above.keys()
    for name, one in result.overlaps.items():
        both = (above[name] & lesion).sum()
        assert one.recall == pytest.approx(both / lesion.sum())
        assert one.precision == pytest.approx(both / max(above[name].sum(), 1))
        assert one.dice == pytest.approx(2 * both / (above[name].sum() + lesion.sum()))
    assert result.overlaps["best_dice"].dice == pytest.approx(result.best_dice)
    assert evaluate(case, 1.0).overlaps.keys() == {"best_dice", "1pct"}


@untimed
@given(voxels())
def test_auc_is_the_same_for_a_strictly_increasing_transform_and_its_complement_for_the_negative(
    given_voxels,
):
    novelty, lesion = given_voxels
    auc = evaluate(case_of(novelty, lesion), 1.0).auc
    assert evaluate(case_of(np.exp(novelty) + 3, lesion), 1.0).auc == pytest.approx(auc)
    assert evaluate(case_of(-novelty, lesion), 1.0).auc == pytest.approx(1 - auc)


@untimed
@given(voxels())
def test_the_order_of_voxels_does_not_matter(given_voxels):
    novelty, lesion = given_voxels
    forwards = evaluate(case_of(novelty, lesion), 1.0)
    backwards = evaluate(case_of(novelty[::-1], lesion[::-1]), 1.0)
    assert forwards.auc == pytest.approx(backwards.auc)
    assert forwards.threshold_1pct == backwards.threshold_1pct
    assert forwards.lesions_found == backwards.lesions_found


def test_a_perfect_map_scores_one_and_a_constant_map_is_chance():
    case = random_case()
    perfect = evaluate(replace(case, novelty=case.labels.astype(np.float32)), 8.0)
    assert (perfect.auc, perfect.average_precision, perfect.best_dice) == (1.0, 1.0, 1.0)
    assert perfect.lesions_found == perfect.lesions
    constant = evaluate(replace(case, novelty=np.ones_like(case.novelty)), 8.0)
    assert constant.auc == 0.5
    assert constant.average_precision == pytest.approx(constant.lesion_voxels / constant.voxels)
    assert constant.lesions_found == 0


@untimed
@given(st.integers(1, 500), st.integers(1, 5))
def test_the_threshold_is_the_least_healthy_value_that_at_most_one_percent_exceed(count, levels):
    novelty = np.random.default_rng(count).integers(0, 10**levels, count + 1)
    threshold = evaluate(case_of(novelty, np.arange(count + 1) == 0), 1.0).threshold_1pct
    healthy = novelty[1:]
    allowed = [value for value in healthy if (healthy > value).sum() <= 0.01 * count]
    assert threshold == min(allowed)


def test_voxels_outside_the_mask_count_for_nothing_but_are_told():
    case = random_case()
    spoilt = np.where(case.mask, case.novelty, np.nan).astype(np.float32)
    inside, outside = evaluate(case, 8.0), evaluate(replace(case, novelty=spoilt), 8.0)
    assert inside.auc == outside.auc
    assert inside.voxels == case.mask.sum()
    assert inside.lesion_voxels == (case.labels & case.mask).sum()
    assert inside.lesion_voxels_outside_mask == (case.labels & ~case.mask).sum() > 0


def test_voxels_that_touch_by_a_corner_are_one_lesion_and_one_voxel_finds_it():
    labels = np.zeros((6, 6, 6), bool)
    labels[0, 0, 0] = labels[1, 1, 1] = labels[1, 1, 2] = True
    labels[4, 4, 4] = True
    novelty = np.zeros(labels.shape, np.float32)
    novelty[1, 1, 2] = 1.0
    result = evaluate(Case("a", "b", novelty, labels, np.ones_like(labels)), 10.0)
    assert [(one.voxels, one.volume, one.peak, one.found) for one in result.each_lesion] == [
        (3, 30.0, 1.0, True),
        (1, 10.0, 0.0, False),
    ]
    assert (result.lesions, result.lesions_found) == (2, 1)
    counted = [(size.minimum, size.lesions, size.found) for size in result.recall_by_size]
    assert counted[:2] == [(0.0, 1, 0), (30.0, 1, 1)]


@untimed
@given(st.integers(0, 1000))
def test_each_lesion_is_counted_and_its_peak_found_as_one_by_one(seed):
    case = random_case(seed)
    result = evaluate(case, 2.0)
    components, count = ndimage.label(case.labels, structure=np.ones((3, 3, 3)))
    one_by_one = []
    for number in range(1, count + 1):
        lesion = components == number
        if (lesion & case.mask).any():
            peak = case.novelty[lesion & case.mask].max()
            found = peak > result.threshold_1pct
            one_by_one.append((lesion.sum(), 2.0 * lesion.sum(), peak, found))
    each = [(one.voxels, one.volume, one.peak, one.found) for one in result.each_lesion]
    assert sorted(each) == sorted(one_by_one)
    assert [voxels for voxels, *_ in each] == sorted((v for v, *_ in each), reverse=True)


def test_a_mask_neither_splits_nor_shrinks_a_lesion_and_hides_lesions_outside():
    labels = np.zeros((9, 3, 3), bool)
    labels[0:5, 1, 1] = labels[8, 1, 1] = True
    mask = np.ones_like(labels)
    mask[2], mask[8] = False, False
    result = evaluate(Case("a", "b", labels.astype(np.float32), labels, mask), 1.0)
    assert [one.voxels for one in result.each_lesion] == [5]


def test_large_lesions_have_five_voxels_or_more_those_outside_the_mask_counted():
    labels = np.zeros((12, 3, 3), bool)
    labels[0:5, 1, 1] = labels[6:10, 1, 1] = labels[11, 1, 1] = True
    mask = np.ones_like(labels)
    mask[0:2] = False
    result = evaluate(Case("a", "b", labels.astype(np.float32), labels, mask), 1.0)
    assert (result.lesions, result.lesions_found) == (3, 3)
    assert (result.large_lesions, result.large_lesions_found) == (1, 1)
    missed = evaluate(Case("a", "b", 1.0 - labels, labels, mask), 1.0)
    assert (missed.large_lesions, missed.large_lesions_found) == (1, 0)


@untimed
@given(st.integers(0, 50), st.floats(0.1, 300.0))
def test_the_size_bins_add_up_to_all_lesions(seed, voxel_volume):
    result = evaluate(random_case(seed), voxel_volume)
    assert sum(size.lesions for size in result.recall_by_size) == result.lesions
    assert sum(size.found for size in result.recall_by_size) == result.lesions_found
    assert len(result.recall_by_size) == len(SIZE_EDGES) - 1


def test_the_curve_is_thinned_but_keeps_its_ends_and_its_area():
    random = np.random.default_rng(0)
    lesion = random.random(20_000) < 0.1
    result = evaluate(case_of(random.normal(size=lesion.size) + lesion, lesion), 1.0)
    false, true = result.false_positive_rate, result.true_positive_rate
    assert len(false) <= module.CURVE_POINTS
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert (np.diff(false) >= 0).all() and (np.diff(true) >= 0).all()
    area = float(np.sum(np.diff(false) * (true[1:] + true[:-1]) / 2))
    assert area == pytest.approx(result.auc, abs=2e-3)


def test_the_kept_values_are_all_of_few_and_a_fair_sample_of_many():
    random = np.random.default_rng(0)
    lesion = np.arange(50_000) < 10
    novelty = random.gamma(2.0, size=lesion.size).astype(np.float32)
    result = evaluate(case_of(novelty, lesion), 1.0)
    np.testing.assert_array_equal(result.lesion_values, np.sort(novelty[lesion]))
    assert len(result.healthy_values) == module.SAMPLE_VALUES
    for share in (0.01, 0.5, 0.99):
        below = np.mean(novelty[~lesion] <= np.quantile(result.healthy_values, share))
        assert below == pytest.approx(share, abs=2e-4)


# ------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda case: {"labels": np.zeros_like(case.labels)},
            LabelError,
            r"no lesion voxel within the brain mask of sub-01 \(0 outside it\); give labels",
        ),
        (
            lambda case: {"mask": case.mask & ~case.labels},
            LabelError,
            r"no lesion voxel within the brain mask of sub-01 \([1-9]\d* outside it\)",
        ),
        (
            lambda case: {"mask": case.labels},
            LabelError,
            r"All \d+ voxels within the brain mask of sub-01 are lesion; give labels that leave",
        ),
        (
            lambda case: {"mask": np.zeros_like(case.mask), "region": "white matter"},
            ScanError,
            r"no voxel within the white matter mask of sub-01; give a mask",
        ),
        (
            lambda case: {"novelty": np.full_like(case.novelty, np.nan)},
            ScanError,
            r"latent-distance map of sub-01 has (\d+) of \1 voxels NaN or infinite within",
        ),
        (
            lambda case: {"labels": case.labels[1:]},
            ArrayError,
            r"shape \(12, 12, 12\), its labels \(11, 12, 12\) and its mask \(12, 12, 12\); give",
        ),
        (
            lambda case: {"neglogp": case.novelty[1:]},
            ArrayError,
            r"its map of -log10 p \(11, 12, 12\), its labels .*; give arrays of one 3-D",
        ),
        (
            lambda case: {"labels": case.labels.astype(int)},
            ArrayError,
            r"labels of sub-01 are of type int64 and its mask of type bool; give both as bool",
        ),
    ],
)
def test_a_case_that_cannot_be_evaluated_is_refused(change, error, message):
    case = random_case()
    with pytest.raises(error, match=message):
        evaluate(replace(case, **change(case)), 8.0)


@pytest.mark.parametrize("volume", [0.0, -1.0, np.nan, np.inf])
def test_a_voxel_volume_that_is_not_positive_is_refused(volume):
    with pytest.raises(ArrayError, match=r"voxel volume of sub-01 is .* mm³; give a positive"):
        evaluate(random_case(), volume)
