"""Nearest points of a large set by Euclidean distance: the engines, and the choice among them.

A new engine is a function that builds it and an entry in `ENGINES`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from qspace_nd.arrays import Float32, Float64, Int64
from qspace_nd.progress import Advance, unheard

if TYPE_CHECKING:
    from qspace_nd.searching.tree import PointTree

_log = logging.getLogger(__name__)

_SMALL = 20_000  # below this many points the choice of engine does not matter
_CPU = torch.device("cpu")


class Finder(Protocol):
    """A search for the nearest of N points in D dimensions."""

    def distances(
        self,
        queries: Float32,
        k: int = 1,
        within: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """Distances from `queries` (n, D) to the k nearest points, ascending: (n, min(k, N)).

        Points that are farther than `within` (n,) may be left out, with inf in their place.
        `advance` is told of queries whose neighbours are found.
        """


Build = Callable[..., Finder]
"""Makes a search, of points (N, D) and the network's device, which it may compute on."""


# --- Builds. What is compiled takes its time to import: only who searches waits for it.


def by_tree(points: Float32, _: torch.device) -> Finder:
    """Search exactly by a tree, on the CPU."""
    from qspace_nd.searching.tree import PointTree

    return PointTree(points)


def by_all_pairs(points: Float32, device: torch.device) -> Finder:
    """Search exactly by a look at all points: hardly anything to build, for few queries."""
    from qspace_nd.searching.all_pairs import AllPairs
    from qspace_nd.searching.all_pairs_minima import minima_on

    return AllPairs(points, minima_on(device))


def by_lists(points: Float32, _: torch.device) -> Finder:
    """Search in the likeliest places alone, on the CPU: some of the nearest are missed."""
    from qspace_nd.searching.approximate import ApproximateNeighbours

    return ApproximateNeighbours(points)


# --- Engines


@dataclass(frozen=True)
class Engine:
    """A way to find the nearest points exactly, to the last bit as all others do.

    Attributes
    ----------
    build : callable
        Makes the search.
    devices : tuple of str
        The types of the network's device that it is tried for.
    queries : int
        As many as it takes to tell its time: on a few queries all pairs seem slower than they are.
    points : int or None
        As many as it takes, where the time is in proportion to the points; None for all.
    """

    build: Build
    devices: tuple[str, ...]
    queries: int
    points: int | None = None


ENGINES = {
    "tree": Engine(by_tree, ("cpu", "mps", "cuda"), queries=256),
    "all pairs": Engine(by_all_pairs, ("cpu", "mps"), queries=1024, points=250_000),
    "all pairs on a GPU": Engine(by_all_pairs, ("cuda",), queries=1024),
}
"""By name. The first one is taken untimed where there are few points."""


class NearestNeighbours:
    """The nearest of N points in D dimensions, exactly, by the engine that is fastest.

    The cost of a tree hardly grows with N where the points fill few dimensions or vary mostly in a
    few; comparing all pairs, as a matrix product, costs the same whatever the points. Which is
    faster depends on the data, so a few queries are timed on each. Distances are the same to the
    last bit, on a GPU too, because all engines measure them in float64 on the CPU, in one order,
    and trust what they found in float32 only where its rounding cannot have hidden a nearer point.

    Parameters
    ----------
    points : (N, D) array
        The points, taken as float32.
    device : torch.device
        Where all pairs are compared: on a CUDA device, else on the CPU.

    Attributes
    ----------
    engine : str
        What finds neighbours, of `ENGINES`; empty before the first search.
    """

    def __init__(self, points: Float32, device: torch.device = _CPU) -> None:
        self._device = device
        self._points = np.ascontiguousarray(points, np.float32)
        self._number = len(points)
        self._finder: Finder | None = None
        self.engine = ""

    @staticmethod
    def by(tree: PointTree) -> NearestNeighbours:
        """Search by a tree that is there."""
        nearest = NearestNeighbours(np.empty((0, 0), np.float32))
        nearest._number, nearest.engine, nearest._finder = len(tree), "tree", tree
        return nearest

    @property
    def tree(self) -> PointTree:
        """The tree of all points, which all searches go by once it was asked for."""
        from qspace_nd.searching.tree import PointTree

        if not isinstance(self._finder, PointTree):
            self.engine, self._finder = "tree", PointTree(self._points)
            self._points = np.empty((0, 0), np.float32)  # the tree holds what it needs
        return self._finder

    def __len__(self) -> int:
        return self._number

    def distances(
        self,
        queries: Float32,
        k: int = 1,
        within: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """As `Finder` has it."""
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, len(self))
        if not len(queries):
            return np.empty((0, k))
        if self._finder is None:
            self.engine, self._finder = self._fastest(queries, k)
            if self.engine == "tree":  # which holds what it needs
                self._points = np.empty((0, 0), np.float32)
        return self._finder.distances(queries, k, within, advance)

    def without(self, points: Int64) -> Finder:
        """The search without some `points` (m, 2), from one to before another.

        By a tree of all, whichever engine is fastest.
        """
        return _Without(self.tree, points)

    def _fastest(self, queries: Float32, k: int) -> tuple[str, Finder]:
        """Name and search of the engine that takes least time for some of the queries."""
        if len(self) < _SMALL:
            name = next(iter(ENGINES))
            return name, ENGINES[name].build(self._points, self._device)
        points = {
            name: self._points[: engine.points]
            for name, engine in ENGINES.items()
            if self._device.type in engine.devices
        }
        finders = {name: ENGINES[name].build(some, self._device) for name, some in points.items()}
        seconds = {
            name: _time(finder, _some(queries, ENGINES[name].queries), k)
            * (len(self) / len(points[name]))
            for name, finder in finders.items()
        }
        fastest = min(seconds, key=seconds.__getitem__)
        timed = ", ".join(f"{name} {1e6 * s:.0f} µs" for name, s in seconds.items())
        size = f"{len(self)} in {queries.shape[1]} dimensions"
        _log.debug(f"Nearest of {size}: by {fastest} ({timed})")
        if len(points[fastest]) < len(self):
            return fastest, ENGINES[fastest].build(self._points, self._device)
        return fastest, finders[fastest]


@dataclass(frozen=True)
class _Without:
    """The search of a tree without some of its points."""

    tree: PointTree
    points: Int64

    def distances(
        self,
        queries: Float32,
        k: int = 1,
        within: Float64 | None = None,
        advance: Advance = unheard,
    ) -> Float64:
        """As `Finder` has it."""
        queries = np.ascontiguousarray(queries, np.float32)
        return self.tree.distances(queries, k, within, advance, self.points)


def _some(queries: Float32, number: int) -> Float32:
    return queries[:: max(1, len(queries) // number)][:number]


def _time(finder: Finder, queries: Float32, k: int) -> float:
    """Seconds that the neighbours of a query take, by those of `queries` (n, D)."""
    finder.distances(queries, k)  # the first call pays for memory and threads
    start = time.perf_counter()
    finder.distances(queries, k)
    return (time.perf_counter() - start) / len(queries)
