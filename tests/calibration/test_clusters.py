"""Clusters of a map, and the healthy people who have one as large."""

from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.calibration.clusters import HealthyClusters, beside_healthy, find_clusters, logp_of
from qspace_nd.calibration.null import HealthyMap, Null

AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def test_a_cluster_has_its_size_its_mass_and_its_place_in_the_world() -> None:
    values = np.zeros((9, 9, 9))
    values[2:5, 3, 4:6] = 3.0
    values[4, 3, 5] = 5.0
    values[7, 7, 7] = 9.0  # one voxel is none
    mask = np.ones(values.shape, bool)
    found = find_clusters(values[mask].astype(np.float32), mask, AFFINE, 0.01)
    (cluster,) = found.clusters
    assert cluster.volume == pytest.approx(6 * 8)
    assert cluster.mass == pytest.approx((5 * 1 + 3) * 8)
    assert cluster.peak == pytest.approx(5)
    assert cluster.peak_at == pytest.approx((90 - 2 * 4, -126 + 2 * 3, -72 + 2 * 5))
    assert cluster.centre == pytest.approx((90 - 2 * 3, -126 + 2 * 3, -72 + 2 * 4.5))
    np.testing.assert_array_equal(found.labels > 0, (values > 2) & (values < 9))


def test_clusters_are_numbered_by_their_mass() -> None:
    values = np.zeros((12, 12, 12))
    values[1:4, 1:4, 1] = 2.5
    values[6:9, 6:9, 6] = 4.0
    mask = np.ones(values.shape, bool)
    found = find_clusters(values[mask].astype(np.float32), mask, AFFINE, 0.01)
    assert found.labels[7, 7, 6] == 1
    assert found.labels[2, 2, 1] == 2
    assert found.clusters[0].mass > found.clusters[1].mass


def healthy(random: np.random.Generator, people: int) -> list[HealthyMap]:
    """Noise, in which each person has a block that is a little higher, of another size."""
    maps = []
    for person in range(people):
        values = random.normal(size=(16, 16, 16))
        values[2 : 4 + person % 3, 2:5, 2:5] += 5
        mask = np.ones(values.shape, bool)
        maps.append(HealthyMap(f"p{person}", values[mask].astype(np.float32), mask, AFFINE))
    return maps


def test_a_cluster_larger_than_all_of_healthy_people_is_said_to_be_so() -> None:
    random = np.random.default_rng(0)
    null = Null(healthy(random, 8))
    values = random.normal(size=(16, 16, 16))
    values[6:12, 6:12, 6:12] += 8  # larger than any healthy block
    values[2:4, 2:5, 2:4] += 5  # as large as many
    mask = np.ones(values.shape, bool)
    found = find_clusters(
        logp_of(null.p_values(values[mask].astype(np.float32))), mask, AFFINE, 0.01
    )
    compared = beside_healthy(found, HealthyClusters(null, 0.01).masses)
    first, *others = compared.clusters
    assert (first.healthy, first.expected) == (0, 0)
    assert first.p == pytest.approx(1 / 9)
    assert others
    assert all(one.healthy > 0 and one.expected > 0 for one in others)
    assert compared.beyond == 1


def test_healthy_people_are_compared_with_the_others_alone() -> None:
    """A person whose own map is in the null does not hide there."""
    random = np.random.default_rng(1)
    maps = healthy(random, 6)
    one = maps[0]
    assert one.mask is not None
    values = np.zeros(one.mask.shape, np.float32)
    values[one.mask] = one.novelty
    values[8:12, 8:12, 8:12] += 20
    maps[0] = HealthyMap("p0", values[one.mask], one.mask, AFFINE)
    masses = HealthyClusters(Null(maps), 0.01).masses
    others = [masses[f"p{i}"][0].max(initial=0) for i in range(1, 6)]
    assert masses["p0"][0].max() > max(others) > 0
