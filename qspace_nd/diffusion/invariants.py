"""What a voxel's signal is like however the fibres lie in the scanner.

The b=0 signal, and of each shell the mean over the sphere and the power of each harmonic order,

    mean = c_00 / √(4π),    power_l = Σ_m c_lm² / 4π,    l = 2, 4

(Mirzaalian et al., NeuroImage 135:311, 2016), the mean square of that part of the signal. Noise
adds to a power what it adds to the squares of the coefficients, σ² Σ_m (F Fᵀ)_lm,lm / 4π where
c = F s; that is taken off, with σ² by the residual of the fit.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.harmonics import ShellFit, chunks, coefficients_of, degrees
from qspace_nd.diffusion.resampling import carried, match_shells
from qspace_nd.errors import GradientError

MAX_POWER = 4
"""The largest order whose power is taken: up to b=1500, order 6 is below the noise."""


class RotationInvariants:
    """A scan's signal as rotation-invariant features.

    Parameters
    ----------
    model, scan : GradientTable
        Of the model, whose shells say what features there are; and of the scan, of C' volumes.
    name : Path or str
        The scan, for messages.

    Raises
    ------
    GradientError
        See `resampling.Resampling`; or a shell has too few directions for the model's orders.

    Attributes
    ----------
    fits : ShellFits
        Of the scan.
    names : tuple of str
        Of the K features: `b=0`, `mean at b=1200`, `power of order 2 at b=1200` and so on.
    """

    def __init__(self, model: GradientTable, scan: GradientTable, name: Path | str) -> None:
        matched = match_shells(model, scan, name)
        self.fits = matched.scan
        weighted = matched.model[1:]
        self._shares = np.array([len(channels) for channels in matched.model]) / len(model.bvals)
        self._shells = []
        names, of_mean = ["b=0"], [0]
        for channels, shell in zip(weighted, self.fits.shells, strict=True):
            b = float(np.median(model.bvals[channels]))
            ours = ShellFit(b, channels, model.directions[channels])
            powers = range(2, min(ours.order, MAX_POWER) + 1, 2)
            if shell.order < max(powers, default=0):
                raise GradientError(
                    f"{name} has {len(shell.volumes)} directions at b={shell.b:.0f}, too few for "
                    f"the model's power of order {max(powers)}; expected "
                    f"{coefficients_of(max(powers))} or more: take a scan with more directions."
                )
            self._shells.append((shell, b / shell.b - 1, tuple(powers)))
            of_mean += [len(names)] * (1 + len(powers))
            names += [f"mean at b={b:.0f}", *(f"power of order {o} at b={b:.0f}" for o in powers)]
        self.names = tuple(names)
        self._of_mean = np.array(of_mean)  # (K,): the feature that is the mean of each one's shell
        self._is_power = self._of_mean != np.arange(len(names))

    def __call__(self, values: Float32) -> Float32:
        """Features (n, K) of voxels (n, C'), of the signal divided by the scan's mean.

        The mean over the voxels and the model's channels: as many of each shell as it has.
        """
        features = np.empty((len(values), len(self.names)), np.float32)
        noise = [
            _noise_shares(shell, powers, values[:, shell.volumes])
            for shell, _, powers in self._shells
        ]
        for rows, part in chunks(values):
            b0 = part[:, self.fits.b0].mean(axis=1, keepdims=True)
            columns = [b0]
            for (shell, exponent, powers), shares in zip(self._shells, noise, strict=True):
                c = part[:, shell.volumes] @ shell.matrix.T  # (n, coefficients)
                mean = c[:, :1] / np.sqrt(4 * np.pi)
                factor = carried(mean, b0[:, 0], np.array([exponent]))
                columns.append(mean * factor)
                l = degrees(shell.order)  # noqa: E741 - as in the equation
                for power, share in zip(powers, shares, strict=True):
                    square = np.square(c[:, l == power]).sum(axis=1, keepdims=True) / (4 * np.pi)
                    columns.append((square - share) * factor**2)
            features[rows] = np.concatenate(columns, axis=1)
        scale = features[:, ~self._is_power].mean(axis=0, dtype=np.float64) @ self._shares
        features /= np.where(self._is_power, scale**2, scale).astype(np.float32)
        return features

    def scales(self, means: Float32) -> Float32:
        """What features are divided by, where their `means` (K,) over healthy voxels are known.

        Powers, whose own means may be nothing but noise, by the square of their shell's mean.
        """
        return np.where(self._is_power, means[self._of_mean] ** 2, means)


def _noise_shares(shell: ShellFit, powers: tuple[int, ...], signal: Float32) -> list[float]:
    """What noise adds to each of the `powers` of a shell's `signal` (N, n)."""
    if not powers:
        return []
    variances = np.square(shell.matrix).sum(axis=1) * shell.noise_variance(signal) / (4 * np.pi)
    l = degrees(shell.order)  # noqa: E741 - as in the equation
    return [float(variances[l == power].sum()) for power in powers]
