"""About how far the nearest point of each block is, in float32, on the CPU or on a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import faiss
import numpy as np
import torch
from torch import Tensor

from qspace_nd.arrays import Float32

Minima = Callable[[Float32], Float32]
"""Squared distances of queries (n, d) to the nearest point of each block, about: (blocks, n).

They are computed as |x|² + |y|² - 2 x·y in float32, in any order of summation. Numbers that
overflow may be missed.
"""

MakeMinima = Callable[[Float32, int], Minima]
"""Makes the minima of points (N, d) in blocks of some size, the last of which may be shorter."""

BATCH = 4096
"""Queries that are compared with all points at once."""

_PIECE = 16_384  # points that a GPU compares with a batch at once


def minima_on(device: torch.device) -> MakeMinima:
    """Return how block minima are computed: by PyTorch on a CUDA device, else by FAISS on the CPU.

    Nothing says how Apple's GPUs round products, so that what could be nearer is not known there.
    """
    return partial(TorchMinima, device=device) if device.type == "cuda" else FaissMinima


class FaissMinima:
    """Block minima by FAISS, whose search for one neighbour takes no longer than the products."""

    def __init__(self, points: Float32, size: int) -> None:
        self._blocks = [points[start : start + size] for start in range(0, len(points), size)]

    def __call__(self, queries: Float32) -> Float32:
        """Return the minima of queries (n, d): (blocks, n)."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        faiss.cvar.distance_compute_blas_threshold = 20  # else small batches take a slow path
        minima = np.empty((len(self._blocks), len(queries)), np.float32)
        for row, block in zip(minima, self._blocks, strict=True):
            row[:] = faiss.knn(queries, block, 1)[0][:, 0]
        return minima


class TorchMinima:
    """Block minima by PyTorch on a device, which holds the points where half its memory does."""

    def __init__(self, points: Float32, size: int, device: torch.device) -> None:
        self._size, self._device = size, device
        held = device if _has_room(device, points.nbytes) else torch.device("cpu")
        rows = max(1, _PIECE // size) * size
        self._pieces = [
            torch.from_numpy(points[start : start + rows]).to(held)
            for start in range(0, len(points), rows)
        ]

    def __call__(self, queries: Float32) -> Float32:
        """Return the minima of queries (n, d): (blocks, n)."""
        with _no_shorter_floats():
            x = torch.from_numpy(queries).to(self._device)
            squares = (x * x).sum(1)
            found = [self._of_piece(piece.to(self._device), x) for piece in self._pieces]
            minima: Float32 = (torch.cat(found) + squares).cpu().numpy()
        return minima

    def _of_piece(self, y: Tensor, x: Tensor) -> Tensor:
        """Least |y|² - 2 x·y of each block of a piece (m, d) and queries (n, d): (blocks, n)."""
        terms = torch.addmm((y * y).sum(1, keepdim=True), y, x.T, alpha=-2.0)  # (m, n)
        whole = len(y) // self._size * self._size
        minima = terms[:whole].view(-1, self._size, len(x)).amin(1)
        if whole == len(y):
            return minima
        return torch.cat([minima, terms[whole:].amin(0, keepdim=True)])


def _has_room(device: torch.device, size: int) -> bool:
    """Whether points of so many bytes, and the products of a piece, take half of what is free."""
    needed = size + 4 * _PIECE * BATCH
    return device.type != "cuda" or 2 * needed <= torch.cuda.mem_get_info(device)[0]


@contextmanager
def _no_shorter_floats() -> Iterator[None]:
    """Have CUDA multiply float32 as they are, whatever the user allows elsewhere: no TF32."""
    matmul = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # since PyTorch 2.9
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # it is not told where the newer setting says otherwise
        older = None
    matmul.allow_tf32 = False  # which sets both
    try:
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer
