"""The mean signal of each shell: what a voxel has at a b-value, whichever way its fibres run."""

from __future__ import annotations

import numpy as np

from qspace_nd.arrays import Float32, Ints
from qspace_nd.diffusion.gradients import GradientTable

LEAST_DIRECTIONS = 6
"""How many a shell needs here: the mean of fewer is a matter of where they point."""

_LEAST_SIGNAL = 1e-3  # of the scan's mean


def named_shells(table: GradientTable) -> dict[str, Ints]:
    """The volumes of each shell above b=0 that has directions enough, as `b1000`, by rising b.

    Shells are called by their median b-value to the nearest hundred, or to the unit where that
    would give two of them one name. Volumes whose b-values run on are no shell.
    """
    weighted = [shell for shell in table.shell_volumes() if not table.b0[shell].any()]
    shells = [
        shell
        for shell in weighted
        if len(shell) >= LEAST_DIRECTIONS and not np.isin(shell, table.without_shell).any()
    ]
    middles = [float(np.median(table.bvals[shell])) for shell in shells]
    rounded = [round(middle / 100) * 100 for middle in middles]
    if len(set(rounded)) < len(rounded):
        rounded = [round(middle) for middle in middles]
    return {f"b{bvalue}": shell for bvalue, shell in zip(rounded, shells, strict=True)}


def shell_features(signals: Float32, table: GradientTable) -> Float32:
    """The logarithm of each shell's mean signal.

    Parameters
    ----------
    signals : (n, C) array
        In one unit for all channels, divided by the scan's mean.
    table : GradientTable
        Of the C channels.

    Returns
    -------
    (n, K) float32 array
        Of the `named_shells`, in their order.
    """
    shells = named_shells(table).values()
    means = np.empty((len(signals), len(shells)), np.float32)
    for column, shell in enumerate(shells):
        means[:, column] = signals[:, shell].mean(axis=1, dtype=np.float64)
    return np.log(np.maximum(means, np.float32(_LEAST_SIGNAL)))
