"""In what voxels differ from the healthy ones with the nearest latents."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qspace_nd.gaussian import Gaussian
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores import explanation, reference
from qspace_nd.scores.explanation import among_nearest
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Views
from tests.scores.conftest import signals


class Told:
    """The first channel, the second one's logarithm, and what is 1 for all."""

    names = ("first", "log second", "one")

    def tissue(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([x[:, 0], np.log(np.maximum(x[:, 1], 0.01))], axis=1)

    def shells(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.ones((len(x), 1), np.float32)


def views(model: NoveltyModel, x: NDArray[np.float32]) -> Views:
    return Views(model.network_, torch.from_numpy(x), seed=model.seed)


def all_of(healthy: Reference, told: Told) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latents and quantities of all healthy voxels."""
    x = healthy.points("x")
    quantities = np.concatenate([told.tissue(x), told.shells(x)], axis=1)
    return healthy.points("q_bar").astype(np.float64), quantities.astype(np.float64)


def test_quantities_are_held_against_the_50_nearest_by_their_spread(trained: NoveltyModel) -> None:
    told, x = Told(), signals(200, seed=7)
    found = among_nearest(views(trained, x), trained.reference_, told)
    latents, quantities = all_of(trained.reference_, told)
    own = np.concatenate([told.tissue(x), told.shells(x)], axis=1)
    queries = trained.encode(x).mean
    nearest = [np.argsort(((latents - z) ** 2).sum(axis=1))[:50] for z in queries]
    mean = np.array([quantities[some].mean(axis=0) for some in nearest])
    spread = np.array([quantities[some].std(axis=0) for some in nearest])
    expected = (own - mean) / np.maximum(spread, 0.1 * np.median(spread, axis=0) + 1e-9)
    assert list(found.values) == list(told.names)
    assert found.against == "the 50 healthy voxels with the nearest latents, wherever they lie"
    for column, name in enumerate(told.names[:2]):
        np.testing.assert_allclose(found.values[name], expected[:, column], rtol=1e-4, atol=1e-5)
        assert 0.3 < found.values[name].std() < 2
    assert (found.values["one"] == 0).all()  # never divided by 0


def test_what_lies_above_the_nearest_is_told_so(trained: NoveltyModel) -> None:
    x = signals(100, seed=7)
    known = views(trained, x).q
    x[:10, 0] += 1.0  # which the latents, as they were, do not tell of
    changed = Views(trained.network_, torch.from_numpy(x), Gaussian(known.mean, known.std))
    found = among_nearest(changed, trained.reference_, Told()).values["first"]
    assert found[:10].min() > 3 > np.abs(found[10:]).mean()


def test_where_neighbours_are_alike_a_tenth_of_the_typical_spread_counts(
    trained: NoveltyModel,
) -> None:
    class Alike(Told):
        def tissue(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.maximum(x[:, :2], 1.1)

    x = signals(200, seed=7)
    found = among_nearest(views(trained, x), trained.reference_, Alike())
    latents, quantities = all_of(trained.reference_, Alike())
    queries = trained.encode(x).mean
    nearest = [np.argsort(((latents - z) ** 2).sum(axis=1))[:50] for z in queries]
    spread = np.array([quantities[some, 0].std() for some in nearest])
    least = 0.1 * np.median(spread)
    assert 0 < (spread < least).sum() < 100
    mean = np.array([quantities[some, 0].mean() for some in nearest])
    expected = (Alike().tissue(x)[:, 0] - mean) / np.maximum(spread, least)
    np.testing.assert_allclose(found.values["first"], expected, rtol=1e-4, atol=1e-5)


def test_deviations_are_the_same_whatever_the_order_the_chunks_the_threads_and_the_memory(
    trained: NoveltyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, x = Told(), np.repeat(signals(150, seed=7), 2, axis=0)
    healthy = trained.reference_
    whole = among_nearest(views(trained, x), healthy, told)
    order = np.random.default_rng(0).permutation(len(x))
    permuted = among_nearest(views(trained, x[order]), healthy, told)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    monkeypatch.setattr(explanation, "_CHUNK", 7)
    monkeypatch.setattr(reference, "ROWS", 64)
    in_blocks = among_nearest(views(trained, x), healthy, told, memory=0)
    torch.set_num_threads(threads)
    assert len(healthy.blocks(0)) > 20
    for name, values in whole.values.items():
        np.testing.assert_array_equal(permuted.values[name], values[order])
        np.testing.assert_array_equal(in_blocks.values[name], values)


def test_few_healthy_voxels_are_all_the_nearest(trained: NoveltyModel) -> None:
    few = Reference([replace(trained.reference_.parts[0], stop=20)])
    found = among_nearest(views(trained, signals(30, seed=7)), few, Told())
    assert found.against.startswith("the 20 healthy voxels")
    assert all(np.isfinite(values).all() for values in found.values.values())
