"""Healthy signal changed as disease changes it: known novelty without any lesion label."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qspace_nd.gradients import GradientTable

# The most that each change does; voxels get a random part of it.
_T2_LOG_GAIN = 0.4  # of log S: T2 from 75 to 112 ms at an echo time of 90 ms
_DIFFUSIVITY = 0.4e-3  # mm²/s more, in every direction
_ISOTROPY = 0.7  # of the difference between the directions of a shell, in log S
_CHANGED = 2 / 3  # probability of each change


def alter(
    signals: NDArray[np.float32], table: GradientTable, random: np.random.Generator
) -> NDArray[np.float32]:
    """Change the signal of healthy voxels as demyelination, oedema or cell loss would.

    Each voxel gets at least one of three changes, by a random amount: a longer T2, which scales all
    channels; a higher diffusivity D, which multiplies each by exp(-b ΔD); a lower anisotropy, which
    draws the logarithms of a shell's channels towards their mean. The noise stays the voxel's own.

    Parameters
    ----------
    signals : (n, C) array
        In one unit for all channels, positive where there is signal.
    table : GradientTable
        Of the C channels.
    random : numpy Generator

    Returns
    -------
    (n, C) array
    """
    chosen = random.random((len(signals), 3)) < _CHANGED
    chosen[np.arange(len(signals)), random.integers(0, 3, len(signals))] = True
    amount = np.where(chosen, random.random(chosen.shape), 0.0)
    t2, diffusivity, isotropy = (amount * [_T2_LOG_GAIN, _DIFFUSIVITY, _ISOTROPY]).T[:, :, None]
    floor = 1e-3 * np.abs(signals).mean(axis=1, keepdims=True)
    log_signal = np.log(np.maximum(signals, floor))  # (n, C)
    for shell in table.shell_channels():
        mean = log_signal[:, shell].mean(axis=1, keepdims=True)
        log_signal[:, shell] += isotropy * (mean - log_signal[:, shell])
    log_signal += t2 - diffusivity * np.where(table.b0, 0.0, table.bvals)
    return np.asarray(np.exp(log_signal), dtype=np.float32)
