"""What is kept of healthy people's maps to compare with: there and back, and what it tells."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from qspace_nd.calibration.clusters import HealthyClusters
from qspace_nd.calibration.comparable import Comparable
from qspace_nd.calibration.null import HealthyMap
from qspace_nd.calibration.summary import COMMON, PRECISION, RARE, Summary

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def healthy(number: int) -> HealthyMap:
    random = np.random.default_rng(number)
    mask = np.zeros((14, 15, 12), bool)
    mask[1:-1, 1:-1, 1 : 11 - number % 2] = True
    volume = ndimage.gaussian_filter(random.normal(size=mask.shape), 1.2)
    return HealthyMap(f"p{number // 2}", volume[mask].astype(np.float32), mask, AFFINE)


MAPS = [healthy(number) for number in range(8)]  # four people, two scans of each


@pytest.fixture(scope="module")
def summary() -> Summary:
    return Summary.of(MAPS, 0.05)


def test_it_tells_what_the_maps_do(summary: Summary) -> None:
    comparable = Comparable(MAPS)
    patient = healthy(20)
    assert patient.mask is not None
    mine, theirs = (
        one.bring(patient.novelty, patient.mask, AFFINE) for one in (summary, comparable)
    )
    np.testing.assert_array_equal(mine[0], theirs[0])
    assert mine[1] == theirs[1]
    exact = comparable.null.p_values(mine[0])
    p = summary.shares.p_values(mine[0])
    assert (p >= exact - 1e-12).all()
    assert (p <= exact * (1 + 2 * PRECISION)).all()
    masses = HealthyClusters(comparable.null, 0.05).masses
    assert summary.masses.keys() == masses.keys()
    assert len(summary.masses) == 4
    for share in (COMMON, RARE):
        assert summary.above[share] == tuple(comparable.null.shares_above(share).values())


def test_it_comes_back_from_its_arrays(summary: Summary) -> None:
    again = Summary.from_arrays(summary.to_arrays(), list(summary.masses))
    assert (again.level, again.heights, again.forming) == (
        *(summary.level, summary.heights, summary.forming),
    )
    assert again.above == summary.above
    novelty = np.linspace(-1, 1, 200).astype(np.float32)
    np.testing.assert_array_equal(again.shares.of(novelty), summary.shares.of(novelty))
    for subject, scans in summary.masses.items():
        for own, other in zip(scans, again.masses[subject], strict=True):
            np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("subjects", [["p0", "p1", "p2"], ["p0", "p1", "p2", "p3", "p4"]])
def test_that_of_other_people_is_refused(summary: Summary, subjects: list[str]) -> None:
    with pytest.raises(ValueError, match="other people"):
        Summary.from_arrays(summary.to_arrays(), subjects)


@pytest.mark.parametrize("missing", ["level", "values", "above", "voxels"])
def test_a_summary_that_lacks_something_is_refused(summary: Summary, missing: str) -> None:
    arrays = {name: one for name, one in summary.to_arrays().items() if name != missing}
    with pytest.raises(KeyError, match=missing):
        Summary.from_arrays(arrays, list(summary.masses))
