"""From one gradient table to another: a scan's signal at the directions of a model.

Each shell is fitted in spherical harmonics (`harmonics`) and evaluated at the model's directions;
the mean of the b=0 volumes serves each b=0 channel. That is one matrix for a scan. Where the
shell's b-value is not the model's, the signal is then carried there as if it fell exponentially:

    S(b') = S(b) (S(b)/S(0))^(b'/b - 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.diffusion.gradients import B0_LIMIT, GradientTable
from qspace_nd.diffusion.harmonics import (
    ShellFits,
    chunks,
    fit_shells,
    require_directions,
    require_shells,
)
from qspace_nd.diffusion.normalise import divide_by_scan_mean
from qspace_nd.diffusion.products import multiply
from qspace_nd.errors import GradientError

B_RANGE = 0.10
"""How far, as a share, a shell's b-value may be from the model's to be carried there."""

_LEAST_ATTENUATION = 0.01  # below there is noise only, and at or below 0 no power


@dataclass(frozen=True, eq=False)
class MatchedFits:
    """The fits of a scan's shells, each with the model's shell that it serves.

    Attributes
    ----------
    scan : ShellFits
    model : tuple of array of int
        The model's channels of each shell, as `GradientTable.shell_volumes` gives them; b=0 first.
    """

    scan: ShellFits
    model: tuple[Ints, ...]


class Resampling:
    """A scan's signal brought to the model's gradient table.

    Parameters
    ----------
    model, scan : GradientTable
        Of C and of C' volumes.
    name : Path or str
        The scan, for messages.

    Raises
    ------
    GradientError
        The shells are not the model's, there is no b=0 volume, or a shell has too few directions.

    Attributes
    ----------
    fits : ShellFits
        Of the scan.
    matrix : (C, C') ndarray
        From the scan's signal to the model's channels, at the scan's own b-values.
    """

    def __init__(self, model: GradientTable, scan: GradientTable, name: Path | str) -> None:
        matched = match_shells(model, scan, name)
        self.fits = matched.scan
        b0, *weighted = matched.model
        self._b0 = b0[0]  # each channel at b=0 is the mean of the scan's volumes there
        self.matrix = np.zeros((len(model.bvals), len(scan.bvals)))
        self.matrix[np.ix_(b0, self.fits.b0)] = 1 / len(self.fits.b0)
        self._exponent = np.zeros(len(model.bvals))
        for channels, shell in zip(weighted, self.fits.shells, strict=True):
            self.matrix[np.ix_(channels, shell.volumes)] = shell.at(model.directions[channels])
            self._exponent[channels] = model.bvals[channels] / shell.b - 1

    def __call__(self, values: Float32, *, overwrite: bool = False) -> Float32:
        """Bring voxels (n, C') to the model's channels (n, C), divided by the mean over all.

        If `overwrite`, the result takes the place of `values` where C is C'.
        """
        overwrite &= values.shape[1] == len(self.matrix)
        resampled = values if overwrite else np.empty((len(values), len(self.matrix)), np.float32)
        multiply(values, self.matrix, resampled)
        if self._exponent.any():
            for rows, signal in chunks(resampled):
                resampled[rows] *= carried(signal, signal[:, self._b0], self._exponent)
        divide_by_scan_mean(resampled)
        return resampled


def match_shells(model: GradientTable, scan: GradientTable, name: Path | str) -> MatchedFits:
    """Fit a scan's shells and find the model's shell that each serves, one to one.

    Raises
    ------
    GradientError
        See `Resampling`.
    """
    fits = fit_shells(scan, name)
    require_shells(model, "The model")
    channels = model.shell_volumes()
    if not model.b0.any():
        raise GradientError(
            f"{name} cannot be resampled, as the model has no channel at b=0 ({model.shells()}); "
            "take scans of one gradient table, with --gradients strict."
        )
    wanted = [float(np.median(model.bvals[shell])) for shell in channels[1:]]
    found = [shell.b for shell in fits.shells]
    lacking = [b for b in wanted if not any(_near(b, other) for other in found)]
    strange = [b for b in found if not any(_near(b, other) for other in wanted)]
    if lacking or strange or len(wanted) != len(found):
        lacks = [f"lacks b={b:.0f}" for b in lacking]
        has = [f"has b={b:.0f}, which the model has not" for b in strange]
        differs = lacks + has or [f"has {len(found)} shells near {len(wanted)}"]
        raise GradientError(
            f"{name} has other b-values than the model: it {' and '.join(differs)}; expected "
            f"{model.shells()}, found {scan.shells()}, and b-values are rescaled by at most "
            f"{100 * B_RANGE:.0f} % or {B0_LIMIT:.0f} s/mm²: take a scan of the same shells."
        )
    require_directions(fits, name)
    return MatchedFits(fits, tuple(channels))


def carried(signal: Float64, b0: Float64, exponent: Float64) -> Float64:
    """(S/S(0))^exponent of `signal` (n, m), with `b0` (n,) and `exponent` (m,): (n, m).

    S/S(0) is taken as between 0.01 and 1.
    """
    attenuation = np.divide(
        signal, b0[:, None], out=np.ones_like(signal), where=b0[:, None] > 0
    ).clip(_LEAST_ATTENUATION, 1.0)
    return np.asarray(attenuation**exponent)


def _near(b: float, other: float) -> bool:
    return abs(b - other) <= max(B0_LIMIT, B_RANGE * max(b, other))
