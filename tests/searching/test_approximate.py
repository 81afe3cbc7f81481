from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.searching.approximate import ApproximateNeighbours, recall
from tests.conftest import Run, tree_of
from tests.searching.conftest import brute_force, normal

POINTS = normal(5000, 8) + np.float32(10)
QUERIES = normal(200, 8, seed=1) + np.float32(10)


@pytest.mark.parametrize("k", [1, 7])
def test_the_approximate_search_finds_most_of_the_nearest_and_nothing_nearer(k: int) -> None:
    found, nearest = (
        ApproximateNeighbours(POINTS).distances(QUERIES, k),
        brute_force(POINTS, QUERIES, k),
    )
    assert (found >= nearest * (1 - 1e-5)).all()
    share = recall(found, nearest)
    assert 0.9 < share <= 1
    assert share == pytest.approx(
        np.isclose(found[:, :, None], nearest[:, None], rtol=1e-5).any(axis=2).mean()
    )


def test_what_few_points_are_there_is_found() -> None:
    search = ApproximateNeighbours(POINTS[:3])
    np.testing.assert_allclose(search.distances(POINTS[:3], 2)[:, 0], 0.0, atol=1e-6)
    assert search.distances(QUERIES, 10).shape == (200, 3)


def test_a_point_that_is_not_found_is_infinitely_far(monkeypatch: pytest.MonkeyPatch) -> None:
    # A query looks into one list alone, here that of the three far points.
    monkeypatch.setattr("qspace_nd.searching.approximate.PROBES", 1)
    far = np.concatenate([POINTS, POINTS[:3] + 1000])
    found = ApproximateNeighbours(far).distances(far[-1:], 400)
    assert np.isinf(found[0, -1])
    assert np.isfinite(found[0, 0])


def test_a_map_by_approximate_search_says_what_share_of_the_nearest_was_found(
    folder: Path, call: Run
) -> None:
    scores = "--score latent-distance --score input-distance"
    for search in ("exact", "approximate"):
        outcome = call(f"map patient.nii.gz -o {search}.nii.gz --search {search} {scores}", folder)
        assert outcome.status == 0, outcome.stderr
    for score in ("latent-distance", "input-distance"):
        exact, approximate = (
            json.loads((folder / f"{search}_{score}.json").read_text())
            for search in ("exact", "approximate")
        )
        assert (exact["Search"], approximate["Search"]) == ("exact", "approximate")
        assert "Recall" not in exact
        assert 0.9 < approximate["Recall"] <= 1


def test_scores_without_an_approximate_search_are_refused(folder: Path, call: Run) -> None:
    before = tree_of(folder)
    outcome = call(
        "map patient.nii.gz -o no.nii.gz --search approximate --score latent-distance "
        "--score latent-density",
        folder,
    )
    assert (outcome.status, tree_of(folder)) == (2, before)
    assert "The score latent-density has no approximate search; search exactly" in outcome.stderr
    assert "input-distance, latent-distance" in outcome.stderr
