"""The figures of a scan's quality: how large, how bright, how noisy, and which volumes are bad."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.outlying import bad_volumes
from qspace_nd.imaging.protocol import Bridge
from qspace_nd.imaging.voxels import Voxels

_ROWS = 20_000  # voxels that tell them


@dataclass(frozen=True)
class Figures:
    """The figures of a scan; None for what cannot be told of it.

    Attributes
    ----------
    mask_ml : float
        Volume of the voxels with signal in the mask.
    level : float
        Median over the mask of the mean b=0 signal, as it is stored; without b-values of the mean
        of all channels.
    snr : float or None
        Signal to noise of b=0: `level` by the standard deviation from one b=0 volume to the next.
        With one such volume nothing tells it: in air, scanners and denoising leave no plain noise.
    weighted_percent : float or None
        Median over the mask of the mean of all weighted volumes, in % of b=0.
    residual_percent : float or None
        Median over the mask of the residual of the fit in spherical harmonics, in % of b=0.
    bad_volumes : tuple of int or None
        See `outlying.bad_volumes`; counted from 0.
    """

    mask_ml: float
    level: float
    snr: float | None = None
    weighted_percent: float | None = None
    residual_percent: float | None = None
    bad_volumes: tuple[int, ...] | None = None


def figures_of(voxels: Voxels, bridge: Bridge) -> Figures:
    """The figures of a scan that was read by `bridge`; of its volumes, not yet of channels."""
    scan = voxels.scan
    some = voxels.values[:: max(1, len(voxels.values) // _ROWS)]
    voxel = abs(float(np.linalg.det(scan.grid.affine[:3, :3])))
    mask_ml = len(voxels.values) * voxel / 1000
    b0 = np.zeros(some.shape[1], np.bool_) if scan.gradients is None else scan.gradients.b0
    b0 = b0 if bridge.order is None else b0[bridge.order]
    if not b0.any():
        return Figures(mask_ml, float(np.median(some.mean(axis=1, dtype=np.float64))))
    unweighted = some[:, b0].mean(axis=1, dtype=np.float64)  # above 0 in all voxels with signal
    level = float(np.median(unweighted))
    noise = _noise(some[:, b0])
    weighted = some[:, ~b0].mean(axis=1, dtype=np.float64) / unweighted if not b0.all() else None
    residual = voxels.residual_sample
    fits = None if bridge.transform is None else bridge.transform.fits
    return Figures(
        mask_ml,
        level,
        level / noise if noise else None,
        None if weighted is None else 100 * float(np.median(weighted)),
        None if residual is None else 100 * float(np.median(residual)),
        None if fits is None else tuple(bad_volumes(fits, some).tolist()),
    )


def _noise(repeated: Float32) -> float | None:
    """The standard deviation between volumes (n, m) of one signal, of the median voxel.

    That of few volumes is skew: the median of its square is brought to its mean.
    """
    from scipy.stats import chi2

    free = repeated.shape[1] - 1
    if free < 1:
        return None
    squares = repeated.astype(np.float64).var(axis=1, ddof=1)
    return float(np.sqrt(np.median(squares) * free / chi2.median(free)))
