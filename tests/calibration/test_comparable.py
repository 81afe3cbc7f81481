from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.comparable import Comparable, Level
from qspace_nd.calibration.null import HealthyMap
from qspace_nd.errors import ArrayError

AFFINE = np.diag([2.0, 2, 2, 1])
SHAPE = (12, 12, 12)


def some(seed: int) -> tuple[Float32, Bools]:
    random = np.random.default_rng(seed)
    mask = random.random(SHAPE) < 0.9
    return random.gamma(3, size=np.count_nonzero(mask)).astype(np.float32), mask


def healthy(factors: tuple[float, ...], shifts: tuple[float, ...] = (0, 0, 0, 0)) -> Comparable:
    maps = []
    for number, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
        novelty, mask = some(number)
        novelty = np.float32(factor) * novelty + np.float32(shift)
        maps.append(HealthyMap(f"p{number}", novelty, mask, AFFINE))
    return Comparable(maps)


def test_maps_are_brought_to_the_mean_level_of_healthy_people() -> None:
    comparable = healthy((1, 2, 1, 3), (0, 0, 5, 0))
    for one in comparable.null.maps:
        level = Level.of(one.novelty)
        assert level.middle == pytest.approx(comparable.level.middle, rel=1e-5)
        assert level.high == pytest.approx(comparable.level.high, rel=1e-5)
    assert np.mean(comparable.heights) == pytest.approx(0, abs=1e-6)
    assert max(comparable.heights) - min(comparable.heights) > 1


def test_gain_and_offset_of_a_scan_change_nothing_but_its_level() -> None:
    comparable = healthy((1, 1, 1, 1))
    novelty, mask = some(9)
    plain, level = comparable.bring(novelty, mask, AFFINE)
    other, higher = comparable.bring(3 * novelty + 1, mask, AFFINE)
    np.testing.assert_allclose(other, plain, rtol=1e-4)
    assert level == pytest.approx(0, abs=0.2)
    assert higher > 2.5


@pytest.mark.parametrize("shift", [-1.0, -2.5, -5.0])  # the median of novelty is about 2.5
def test_the_level_of_scores_below_zero_is_told_the_right_way_round(shift: float) -> None:
    comparable, novelty, mask = healthy((1, 1, 1, 1), (shift,) * 4), *some(9)
    _, same = comparable.bring(novelty + np.float32(shift), mask, AFFINE)
    _, above = comparable.bring(novelty + np.float32(shift + 2), mask, AFFINE)
    _, below = comparable.bring(novelty + np.float32(shift - 2), mask, AFFINE)
    assert same == pytest.approx(0, abs=0.2)
    assert above > 1 and below < -1


def test_noise_is_smoothed_away_and_what_is_larger_stays() -> None:
    comparable = healthy((1, 1, 1, 1))
    novelty, mask = some(9)
    volume = np.zeros(SHAPE, np.float32)
    volume[mask] = novelty
    volume[3:7, 3:7, 3:7] += 30
    noise = volume.copy()
    noise[3:7, 3:7, 3:7] -= 30
    noise[9, 9, 9] += 30
    large, _ = comparable.bring(volume[mask], mask, AFFINE)
    small, _ = comparable.bring(noise[mask], mask, AFFINE)
    assert large.max() > 1.3 * small.max()  # unsmoothed, they are as high


def test_a_map_that_is_the_same_everywhere_has_no_spread_to_stretch() -> None:
    comparable = healthy((1, 1, 1, 1))
    _, mask = some(9)
    brought, _ = comparable.bring(np.full(np.count_nonzero(mask), 2, np.float32), mask, AFFINE)
    np.testing.assert_allclose(brought, comparable.level.middle, rtol=1e-4)


def test_maps_without_images_are_not_compared() -> None:
    with pytest.raises(ArrayError, match="where their voxels lie"):
        Comparable([HealthyMap("p", np.ones(3, np.float32))])
