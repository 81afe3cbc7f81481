"""How voxels are scored by several rules: in chunks, in blocks of the reference, told of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from qspace_nd.arrays import Float64
from qspace_nd.network.vae import VectorVAE
from qspace_nd.progress import Advance, Task, unheard
from qspace_nd.scores import reference as reference_module
from qspace_nd.scores import scoring
from qspace_nd.scores.base import Cost, Score, Search
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.scoring import recall_of, score
from qspace_nd.scores.views import Views
from qspace_nd.searching.nearest import NearestNeighbours

NETWORK = VectorVAE(3, 2, (4,), "silu").eval().requires_grad_(False)


def views(number: int, seed: int) -> Views:
    return Views(NETWORK, torch.rand(number, 3, generator=torch.Generator().manual_seed(seed)))


HEALTHY = Reference([Part("ann", partial(views, 50, 1)), Part("bob", partial(views, 50, 2))])


@dataclass(frozen=True, eq=False)
class Sum(Search):
    """The sum of all healthy channels beside a voxel's own: every block counts once."""

    looks: list[tuple[int, int]] = field(default_factory=list)
    cost = Cost.SEARCH

    def look(
        self,
        voxels: Views,
        block: Reference,
        found: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        self.looks.append((len(voxels), len(block)))
        advance(len(voxels))
        return voxels.x.sum(1).double().numpy() * 0 + block.points("x").astype(float).sum()

    def join(self, found: Float64, more: Float64) -> Float64:
        return found + more

    def conclude(self, found: Float64, number: int) -> Float64:
        return found / number

    def index_bytes(self, healthy: Reference) -> dict[str, int]:
        return {"sums": 100}


@dataclass(frozen=True, eq=False)
class First(Score):
    """The first channel."""

    looks: list[int] = field(default_factory=list)
    cost = Cost.CHEAP

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        self.looks.append(len(voxels))
        return voxels.x[:, 0].double().numpy()


class Told:
    """A listener that counts."""

    def __init__(self) -> None:
        self.total, self.done = 0, 0

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        self.total = total
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.done += steps


@pytest.mark.parametrize(("left", "blocks"), [(10_000, [100]), (5_000, [50, 50]), (0, [10] * 10)])
def test_memory_decides_the_blocks_and_nothing_else(
    left: int, blocks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference_module, "ROWS", 10)
    monkeypatch.setattr(scoring, "remaining", lambda memory: left)
    monkeypatch.setattr(scoring, "_CHUNK", 20)
    searched, plain, told = Sum(), First(), Told()
    voxels = views(30, 0)
    found = score({"sum": searched, "first": plain}, voxels, HEALTHY, None, told)  # type: ignore[arg-type]
    total = HEALTHY.points("x").astype(float).sum()
    np.testing.assert_allclose(found["sum"], total / 100, rtol=1e-6)
    np.testing.assert_array_equal(found["first"], voxels.x[:, 0])
    assert searched.looks == [(rows, size) for size in blocks for rows in (20, 10)]
    assert plain.looks == [20, 10]  # not once a block
    assert told.done == told.total == 30 * (1 + len(blocks))


def test_voxels_are_searched_for_together_where_one_index_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "_CHUNK", 4)
    searched, told, rules = [], Told(), {"q": Nearest("q_bar", "q_bar"), "first": First()}
    look = Nearest.look

    def listen(self: Nearest, voxels: Views, *rest: Any) -> Any:
        searched.append(len(voxels))
        return look(self, voxels, *rest)

    monkeypatch.setattr(Nearest, "look", listen)
    every = []
    for numbers in (2**24, 20, 0):  # of two latents
        monkeypatch.setattr(scoring, "_NUMBERS", numbers)
        every.append(score(rules, views(30, 0), HEALTHY, None, told))  # type: ignore[arg-type]
        assert told.done == told.total == 60
        told.done = 0
    assert searched == [30] + [10] * 3 + [4] * 7 + [2]
    assert rules["first"].looks == 3 * [4, 4, 4, 4, 4, 4, 4, 2]
    for found in every[1:]:
        np.testing.assert_array_equal(found["q"], every[0]["q"])
    monkeypatch.setattr(scoring, "remaining", lambda memory: 0)
    monkeypatch.setattr(scoring, "_NUMBERS", 160)
    searched.clear()
    score(rules, views(30, 0), Reference(HEALTHY.parts))  # type: ignore[arg-type]
    assert set(searched) == {10}


def test_memory_is_for_the_indexes_of_all_searches_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reference_module, "ROWS", 10)
    rules = {"x": Nearest("x", "x"), "again": Nearest("p_bar", "x"), "q": Nearest("q_bar", "q_bar")}
    asked: list[int] = []
    blocks = Reference.blocks

    def listen(self: Reference, most: int) -> list[Reference]:
        asked.append(most)
        return blocks(self, most)

    monkeypatch.setattr(Reference, "blocks", listen)
    monkeypatch.setattr(scoring, "remaining", lambda memory: 1_000_000)
    score(rules, views(5, 0), Reference(HEALTHY.parts))
    assert asked == [1_000_000 // (20 * 3 + 20 * 2)]  # the points x are shared by two


def test_an_index_that_is_built_takes_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = Reference(HEALTHY.parts)
    healthy.nearest("x", NearestNeighbours)
    monkeypatch.setattr(scoring, "remaining", lambda memory: 0)
    monkeypatch.setattr(Reference, "blocks", None)
    assert score({"x": Nearest("x", "x")}, views(5, 0), healthy)["x"].shape == (5,)


def test_no_voxels_have_no_novelty() -> None:
    found = score({"sum": Sum(), "first": First()}, views(0, 0), HEALTHY)
    assert {name: (len(s), s.dtype) for name, s in found.items()} == {
        "sum": (0, np.float32),
        "first": (0, np.float32),
    }


def test_an_approximate_search_of_few_points_finds_them_all() -> None:
    rule = Nearest("x", "x", neighbours=3)
    assert recall_of(rule, views(40, 5), HEALTHY) == 1.0
