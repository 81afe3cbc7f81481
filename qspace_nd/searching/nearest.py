"""Exact search for the nearest points of a large set, by Euclidean distance."""

from __future__ import annotations

import logging
import time
from typing import Protocol

import numpy as np
import torch

from qspace_nd.arrays import Float32, Float64
from qspace_nd.searching.all_pairs_minima import minima_on

_log = logging.getLogger(__name__)


_PROBES = 256  # queries that a tree is timed on
_SCANS = 1024  # queries that a scan is timed on: with fewer it seems slower than it is
_SCANNED = 250_000  # points that a scan on the CPU is timed on
_SMALL = 20_000  # below this many points the choice of engine does not matter
_CPU = torch.device("cpu")


class Engine(Protocol):
    """A way to find neighbours among the points that it was made with."""

    def nearest(self, queries: Float32, k: int) -> Float64:
        """Distances from `queries` (n, d) to the k <= N nearest points, ascending: (n, k)."""


class NearestNeighbours:
    """The nearest of N points in d dimensions, exactly.

    Two engines find neighbours: a tree, whose cost hardly grows with N where the points fill few
    dimensions or vary mostly in a few, and a scan of all pairs as a matrix product, by FAISS or on
    a GPU. Which is faster depends on the data, so a few queries are timed on both. Distances are
    the same to the last bit, on a GPU too, because both measure them in float64 on the CPU, in one
    order, and trust what they found in float32 only where its rounding cannot have hidden a nearer
    point.

    Parameters
    ----------
    points : (N, d) array
        The points, taken as float32.
    device : torch.device
        Where a scan compares all pairs: on a CUDA device, else on the CPU.

    Attributes
    ----------
    engine : str
        What finds neighbours, `tree` or `scan`; empty before the first search.
    """

    def __init__(self, points: Float32, device: torch.device = _CPU) -> None:
        self._device = device
        self._points = np.ascontiguousarray(points, np.float32)
        self._number = len(points)
        self._search: Engine | None = None
        self.engine = ""

    def __len__(self) -> int:
        return self._number

    def distances(self, queries: Float32, k: int = 1) -> Float64:
        """Distances from `queries` (n, d) to the k nearest points, ascending: (n, k)."""
        queries = np.ascontiguousarray(queries, np.float32)
        k = min(k, len(self))
        if not len(queries):
            return np.empty((0, k))
        if self._search is None:
            self.engine, self._search = self._fastest(queries, k)
            self._points = np.empty((0, 0), np.float32)  # the engine holds what it needs
        return self._search.nearest(queries, k)

    def _fastest(self, queries: Float32, k: int) -> tuple[str, Engine]:
        # Compiled code takes its time to import: only who searches waits for it.
        from qspace_nd.searching.all_pairs import BlockScan
        from qspace_nd.searching.tree import PointTree

        tree = PointTree(self._points)
        if len(self) < _SMALL:
            return "tree", tree
        make_minima = minima_on(self._device)
        # On the CPU a scan's time is in proportion to the points: some tell it for all.
        scanned = len(self) if self._device.type == "cuda" else min(len(self), _SCANNED)
        scan = BlockScan(self._points[:scanned], make_minima)
        seconds = {
            "tree": _time(tree, _some(queries, _PROBES), k),
            "scan": _time(scan, _some(queries, _SCANS), k) * len(self) / scanned,
        }
        fastest = min(seconds, key=seconds.__getitem__)
        timed = ", ".join(f"{name} {1e6 * s:.0f} µs" for name, s in seconds.items())
        size = f"{len(self)} in {queries.shape[1]} dimensions"
        _log.info("Nearest of %s: by %s (%s)", size, fastest, timed)
        if fastest == "tree":
            return fastest, tree
        return fastest, scan if scanned == len(self) else BlockScan(self._points, make_minima)


def _some(queries: Float32, number: int) -> Float32:
    return queries[:: max(1, len(queries) // number)][:number]


def _time(engine: Engine, queries: Float32, k: int) -> float:
    """Seconds that the neighbours of a query take, by those of `queries` (n, d)."""
    engine.nearest(queries, k)  # the first call pays for memory and threads
    start = time.perf_counter()
    engine.nearest(queries, k)
    return (time.perf_counter() - start) / len(queries)
