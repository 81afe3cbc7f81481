"""Gradient tables, and signals that they would measure, for the tests of this room."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.simulation.head import multi_tensor_signal, standard_table


def directions(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(bvals: list[float], seed: int = 0) -> GradientTable:
    b = np.array(bvals, dtype=float)
    return GradientTable(b, directions(len(b), seed) * (b > 50)[:, None])


def permuted(gradients: GradientTable, order: np.ndarray) -> GradientTable:
    return GradientTable(gradients.bvals[order], gradients.directions[order])


def angles_between(one: GradientTable, other: GradientTable) -> np.ndarray:
    weighted = ~one.b0
    cosines = np.abs((one.directions * other.directions).sum(axis=1))[weighted]
    return np.degrees(np.arccos(np.clip(cosines, 0, 1)))


def spread(directions: int, bvalue: float = 1200.0, unweighted: int = 3, seed: int = 0):
    """A table of evenly spread directions, turned at random."""
    table = standard_table(unweighted=unweighted, directions=directions, bvalue=bvalue)
    turn = Rotation.random(random_state=seed)
    return GradientTable(table.bvals, turn.apply(table.directions) * ~table.b0[:, None])


def joined(*tables: GradientTable) -> GradientTable:
    return GradientTable(
        np.concatenate([table.bvals for table in tables]),
        np.concatenate([table.directions for table in tables]),
    )


def part(table: GradientTable, volumes: np.ndarray) -> GradientTable:
    return GradientTable(table.bvals[volumes], table.directions[volumes])


def voxels(table: GradientTable, number: int = 300, seed: int = 0) -> np.ndarray:
    """Fibres, crossing fibres and isotropic tissue without noise: (number, C)."""
    rng = np.random.default_rng(seed)
    fractions = rng.dirichlet([0.6, 0.6, 0.6], number).astype(np.float32)
    axes = rng.normal(size=(number, 3, 3)).astype(np.float32)
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    along = np.tile(np.array([1.7e-3, 1.7e-3, 0.9e-3], np.float32), (number, 1))
    across = np.tile(np.array([0.3e-3, 0.3e-3, 0.9e-3], np.float32), (number, 1))
    return multi_tensor_signal(table, fractions, along, across, axes)
