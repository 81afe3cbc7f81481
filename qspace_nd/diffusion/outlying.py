"""What lies far from the others, by the median; and volumes that fit the rest of a shell badly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.diffusion.harmonics import ShellFit, ShellFits

FAR = 3.5
"""The size of a modified z from which a value is an outlier (Iglewicz & Hoaglin, 1993)."""

LEAST = 5
"""Values of which fewer tell no outlier."""

WORSE = 1.5
"""How many times the residual of a shell's typical volume that of a bad one is at least.

Volumes of good scans are so much alike that some lie beyond `FAR`. In four real scans of two people
the worst volume of a shell had 1.12 to 1.21 times the median's, in simulated ones 1.01; a volume
with 10 % less signal is found in all of the real ones.
"""

_CONSISTENT = 0.6745  # of the unit Gaussian: its median absolute deviation


def modified_z(values: ArrayLike) -> Float64:
    """0.6745 (value - median) / MAD for each of `values` (n,): (n,).

    MAD is the median absolute deviation from the median. Where it is 0, whatever differs from the
    median is infinitely far.
    """
    apart = np.asarray(values, np.float64)
    apart = apart - np.median(apart)
    mad = np.median(np.abs(apart))
    if mad == 0:
        return np.where(apart == 0, 0.0, np.copysign(np.inf, apart))
    return np.asarray(_CONSISTENT * apart / mad)


def bad_volumes(fits: ShellFits, values: Float32) -> Ints:
    """Tell which volumes are unlike what the rest of their shell says they should be.

    Of a shell's fit A to the signal s that is the root mean square over voxels of each volume's
    residual, (s - A s)_j.

    Bad is a volume whose residual is an outlier of its shell and `WORSE` times its median or more:
    the worst first, then what is bad without it, as it draws the fit of its neighbours to itself.
    The volumes at b=0 are a shell whose fit is the mean.

    Parameters
    ----------
    fits : ShellFits
        Of the scan.
    values : (n, C) array
        The signal of some voxels.

    Returns
    -------
    (m,) array of int
        Bad volumes in rising order, counted from 0. Shells of fewer than `LEAST` volumes have none.
    """
    found: list[int] = []
    for volumes, fit in _shells(fits):
        while (bad := _worst(values[:, volumes], fit(volumes))) is not None:
            found.append(int(volumes[bad]))
            volumes = np.delete(volumes, bad)
    return np.sort(np.array(found, np.intp))


def _shells(fits: ShellFits) -> Iterator[tuple[Ints, Callable[[Ints], Float64]]]:
    """The volumes of each shell, and what gives the fit (n, n) of n of them."""
    yield fits.b0, lambda volumes: np.full((len(volumes),) * 2, 1 / max(len(volumes), 1))
    for shell in fits.shells:
        directions = dict(zip(shell.volumes.tolist(), shell.directions, strict=True))
        yield shell.volumes, partial(_fit, directions)


def _fit(directions: Mapping[int, Float64], volumes: Ints) -> Float64:
    there = np.array([directions[volume] for volume in volumes.tolist()])
    return ShellFit(0.0, volumes, there).at(there)


def _worst(signal: Float32, fit: Float64) -> int | None:
    """Which of the volumes of a signal (N, n) is the worst, where it is bad."""
    if len(fit) < LEAST:
        return None
    left = np.eye(len(fit)) - fit
    residual = signal.astype(np.float64) @ left.T
    spread = np.sqrt(np.square(residual).mean(axis=0))
    worst = int(spread.argmax())
    far = modified_z(spread)[worst] > FAR and spread[worst] >= WORSE * np.median(spread)
    return worst if far else None
