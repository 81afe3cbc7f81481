"""Whether the b-vectors of a scan are flipped, by how the main directions of neighbours follow.

A fibre bundle runs on in its own direction: where a voxel's main direction points to a neighbour,
that neighbour's points back. A wrong sign or order of the b-vectors' axes turns the directions but
not the places, and they follow each other less. Of the signal one tensor is fitted; as the tensor
turns with the b-vectors, all 24 ways to flip and permute their axes are told from that fit. For
each pair of neighbours, a unit vector d apart, with main directions u and v,

    coherence = mean of FA_u FA_v (u·v)² ((u·d) (v·d))⁴

(after the fibre coherence index of Schilling et al., Magn Reson Imaging 58:82, 2019; MRtrix3's
dwigradcheck asks the same of tractograms).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

import numpy as np
import numpy.typing as npt

from qspace_nd.arrays import Bools, Float32, Float64, Ints
from qspace_nd.diffusion.fsl import world_to_fsl
from qspace_nd.diffusion.gradients import GradientTable

LEAST_GAIN = 1.03
"""How far the best of the 24 has to be above every other, as a ratio of their coherences.

In 12 whole brains of four makers it was the b-vectors as given, 1.068 to 1.22 above the next. In
simulated heads, whose fibres do not run on, it is any, by up to 1.013.
"""

LEAST_VOXELS = 1000
"""Anisotropic voxels from which it can be told: the 12 brains have 4,800 to 25,000."""

_LEAST_FA = 0.35
_MOST_B = 1600.0  # s/mm², beyond which a tensor fits less; more is taken where there is no less
_DIFFUSIVITY = (2e-4, 1.5e-3)  # mm²/s, of tissue
_SIGNS = ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1))  # the others are these up to sign


@dataclass(frozen=True)
class Flip:
    """One of the 24 ways to flip and permute the axes of b-vectors.

    Attributes
    ----------
    axes : tuple of int
        Which of the given components stands for x, y and z.
    signs : tuple of int
    """

    axes: tuple[int, ...]
    signs: tuple[int, ...]

    @property
    def matrix(self) -> Float64:
        """(3, 3): from the b-vectors as given to the others."""
        matrix = np.zeros((3, 3))
        matrix[range(3), self.axes] = self.signs
        return matrix

    def __str__(self) -> str:
        """In words: `with y flipped`, or `taken as (y, x, -z)`."""
        if self.axes == (0, 1, 2):
            return f"with {'xyz'[self.signs.index(-1)]} flipped" if -1 in self.signs else "as given"
        named = (
            "-" * (sign < 0) + "xyz"[axis] for axis, sign in zip(self.axes, self.signs, strict=True)
        )
        return f"taken as ({', '.join(named)})"


FLIPS = [Flip(axes, signs) for axes in permutations(range(3)) for signs in _SIGNS]
"""All 24, b-vectors as given first."""


@dataclass(frozen=True)
class Fitting:
    """What fits better than the b-vectors as given, and by which ratio of coherences."""

    flip: Flip
    gain: float


def better_flip(
    values: Float32, mask: Bools, table: GradientTable, affine: npt.ArrayLike
) -> Fitting | None:
    """Find the flip of a scan's b-vectors that fits clearly better; None where there is none.

    Nor where it cannot be told: too few directions, or too few voxels of white matter.

    Parameters
    ----------
    values : (n, C) array
        The signal.
    mask : (X, Y, Z) array of bool
        Where it was taken, in C order.
    table : GradientTable
        Of the C volumes.
    affine : (4, 4) array_like
        The scan's voxel-to-world matrix.
    """
    design = _design(table, affine)
    if design is None:
        return None
    tensors = _Tensors.fitted(values, *design)
    if np.count_nonzero(tensors.anisotropy > _LEAST_FA) < LEAST_VOXELS:
        return None
    found = _coherences(tensors, mask, np.asarray(affine, np.float64))
    best, second = np.argsort(-found, kind="stable")[:2]
    if best == 0 or found[best] < LEAST_GAIN * found[second]:
        return None
    return Fitting(FLIPS[best], float(found[best] / found[0]))


def _design(table: GradientTable, affine: npt.ArrayLike) -> tuple[Bools, Float64] | None:
    """Which volumes are fitted (C,), and how a tensor makes their logarithms (m, 7)."""
    b = np.where(table.b0, 0.0, table.bvals)
    x, y, z = world_to_fsl(table.directions, affine).T
    columns = [x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z]
    design = np.stack([np.ones(len(b)), *(-b * column for column in columns)], axis=1)
    for most in (_MOST_B, np.inf):
        used = b <= most
        scaled = design[used] / [1, *6 * [b.max()]]
        if np.linalg.matrix_rank(scaled, tol=1e-3) == design.shape[1]:
            return used, design[used]
    return None


@dataclass(frozen=True, eq=False)
class _Tensors:
    """Eigenvalues (n, 3), rising, and the main directions (n, 3) in FSL's axes."""

    values: Float64
    directions: Float64

    @classmethod
    def fitted(cls, signal: Float32, used: Bools, design: Float64) -> _Tensors:
        least = max(1e-3 * float(signal.mean()), 1e-20)
        logarithms = np.log(np.maximum(signal[:, used], least))  # (n, m)
        xx, yy, zz, xy, xz, yz = np.linalg.pinv(design)[1:] @ logarithms.T.astype(np.float64)
        tensors = np.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], axis=1).reshape(-1, 3, 3)
        values, vectors = np.linalg.eigh(tensors)
        return cls(values, vectors[:, :, 2])

    @cached_property
    def anisotropy(self) -> Float64:
        """FA (n,); 0 where the tensor is not one of tissue."""
        mean = self.values.mean(axis=1)
        spread = np.square(self.values - mean[:, None]).sum(axis=1)
        squares = np.square(self.values).sum(axis=1)
        fa = np.sqrt(1.5 * spread / np.where(squares > 0, squares, 1.0))
        low, high = _DIFFUSIVITY
        tissue = (mean > low) & (mean < high) & (self.values[:, 0] > -low)
        return np.where(tissue, np.minimum(fa, 1.0), 0.0)


def _coherences(tensors: _Tensors, mask: Bools, affine: Float64) -> Float64:
    """(24,): how well the main directions follow each other, by flip."""
    anisotropic = tensors.anisotropy > _LEAST_FA
    row = np.full(mask.shape, -1)
    row[mask] = np.where(anisotropic, np.arange(len(anisotropic)), -1)
    total, weight = np.zeros(len(FLIPS)), 0.0
    for step, here, there in _neighbours(row):
        apart = affine[:3, :3] @ step
        d = world_to_fsl(apart[None], affine)[0]
        u, v = tensors.directions[here], tensors.directions[there]
        weights = tensors.anisotropy[here] * tensors.anisotropy[there]
        follow = weights * np.square((u * v).sum(axis=1))
        weight += weights.sum()
        for i, flip in enumerate(FLIPS):
            turned = flip.matrix.T @ d  # in place of all the directions
            total[i] += follow @ ((u @ turned) * (v @ turned)) ** 4
    return total / max(weight, 1e-20)


def _neighbours(row: Ints) -> Iterator[tuple[Float64, Ints, Ints]]:
    """Give each of the 13 steps to a neighbour, and the rows of the pairs that are so far apart."""
    for step in product((-1, 0, 1), repeat=3):
        if step > (0, 0, 0):
            ends = [(max(0, -s), n - max(0, s)) for s, n in zip(step, row.shape, strict=True)]
            here = row[tuple(slice(a, b) for a, b in ends)]
            there = row[tuple(slice(a + s, b + s) for (a, b), s in zip(ends, step, strict=True))]
            both = (here >= 0) & (there >= 0)
            yield np.array(step, np.float64), here[both], there[both]
