"""What is usual in healthy people: shares of voxels, each person alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qspace_nd.calibration.null import HealthyMap, Null, require_enough
from qspace_nd.errors import InputError


def null_of(*values: list[float]) -> Null:
    return Null([HealthyMap(f"p{i}", np.array(v, np.float32)) for i, v in enumerate(values)])


def test_each_person_counts_alike_however_large_the_brain() -> None:
    null = null_of([1, 1, 1, 1], [2], [2], [2])
    np.testing.assert_allclose(null.share(np.float32([0, 1, 1.5, 2, 3])), [1, 1, 0.75, 0.75, 0])


def test_a_p_value_is_never_zero_and_falls_with_the_novelty() -> None:
    null = null_of([1, 2], [3, 4], [5, 6], [7, 8])
    p = null.p_values(np.float32([0, 4.5, 8, 100]))
    np.testing.assert_allclose(p, [1, (8 * 0.5 + 1) / 9, 2 / 9, 1 / 9])


@given(
    arrays(np.float32, (5, 6), elements=st.integers(0, 9)),
    arrays(np.float32, 7, elements=st.integers(0, 10)),
)
def test_the_others_null_is_the_null_without_a_person(
    values: np.ndarray, novelty: np.ndarray
) -> None:
    null = null_of(*values)
    without = null.without("p2").p_values(novelty)
    np.testing.assert_allclose(null.p_values_of_others("p2", novelty), without, atol=1e-12)


def test_at_most_the_share_reaches_the_threshold() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(4, 1000)).astype(np.float32)
    null = null_of(*values)
    threshold = null.threshold(0.01)
    assert np.mean(values >= threshold) == pytest.approx(0.01)


def test_people_alike_have_the_nominal_share_above_the_others_and_one_unlike_them_more() -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(6, 20_000)).astype(np.float32)
    values[3] += 0.5
    shares = null_of(*values).shares_above(0.01)
    assert max(shares, key=shares.__getitem__) == "p3"
    assert shares["p3"] > 0.02
    assert all(0.004 < share < 0.013 for name, share in shares.items() if name != "p3")


def test_scans_of_one_person_count_as_one() -> None:
    maps = [HealthyMap("a", np.float32([1])), HealthyMap("a", np.float32([2, 2, 2]))]
    maps += [HealthyMap(name, np.float32([0])) for name in "bcd"]
    np.testing.assert_allclose(Null(maps).share(np.float32([1, 2])), [1 / 4, 3 / 16])


def test_three_people_are_too_few() -> None:
    with pytest.raises(InputError, match="by 3 of them; expected 4 or more: fit the model on more"):
        require_enough(["a", "b", "c", "a"])


@given(
    arrays(np.float32, (4, 60), elements=st.integers(0, 40)),
    arrays(np.float32, 90, elements=st.integers(-1, 41)),
    st.sampled_from([0.3, 0.05, 1e-4]),
)
def test_thinned_shares_are_never_lower_and_hardly_higher(
    values: np.ndarray, novelty: np.ndarray, precision: float
) -> None:
    shares = null_of(*values, values[0, :7].tolist()).shares
    few = shares.thinned(precision)
    exact, found = shares.of(novelty), few.of(novelty)
    assert (found >= exact - 1e-12).all()
    assert (found <= exact * np.exp(precision) * (1 + 1e-9)).all()
    assert few.threshold(0.1) >= shares.threshold(0.1)
    assert few.p_values(novelty).max() <= 1 + 1e-12


def test_thinned_shares_are_few() -> None:
    random = np.random.default_rng(0)
    null = null_of(*random.normal(size=(4, 50_000)).astype(np.float32))
    few = null.shares.thinned(0.01)
    assert len(few.values) < 2500
    novelty = random.normal(size=1000).astype(np.float32)
    assert (few.of(novelty) <= 1.0101 * null.shares.of(novelty)).all()
