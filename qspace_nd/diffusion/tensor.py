"""The diffusion tensor, and what it says of a voxel's tissue whichever way its fibres run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import B0_LIMIT, GradientTable

if TYPE_CHECKING:
    from dipy.core.gradients import GradientTable as DipyTable

LEAST_DIRECTIONS = 6
"""How many a tensor needs: it has as many elements."""

TISSUE = ("b0", "md", "fa")
"""What `tissue_features` gives of a voxel: log b=0, log mean diffusivity, anisotropy."""

TISSUE_WEIGHTS = (1.0, 1.0, 0.5)
"""What each counts for where tissue at a place is compared, in its standard deviation."""

_LEAST_DIFFUSIVITY = 0.05e-3  # mm²/s: less is noise, and its logarithm would be anything
_LEAST_SIGNAL = 1e-3  # of the mean at b=0


def has_tensor(table: GradientTable | None) -> bool:
    """Whether a tensor can be fitted: to b=0 and six directions or more."""
    if table is None:
        return False
    weighted = np.count_nonzero(~table.b0)
    return bool(LEAST_DIRECTIONS <= weighted < len(table.b0))


def dipy_table(table: GradientTable) -> DipyTable:
    """Return the table as DIPY takes it, with what is meant as b=0 at 0."""
    from dipy.core.gradients import gradient_table

    return gradient_table(
        np.where(table.b0, 0.0, table.bvals), bvecs=table.directions, b0_threshold=B0_LIMIT
    )


def tissue_features(
    signals: Float32, table: GradientTable, b0_mean: float | None = None
) -> Float32:
    """What each voxel's tissue is like, by a tensor fitted by least squares to the log signal.

    Parameters
    ----------
    signals : (n, C) array
        In one unit for all channels, divided by the scan's mean.
    table : GradientTable
        Of the C channels, such that `has_tensor`.
    b0_mean : float, optional
        What the mean signal at b=0 is, a thousandth of which is the least that counts as signal;
        by default that of these voxels.

    Returns
    -------
    (n, 3) float32 array
        The logarithm of the signal at b=0, that of the mean diffusivity in mm²/s, and the
        fractional anisotropy, from 0 to 1 (Basser and Pierpaoli, J Magn Reson B 111:209, 1996).
    """
    from dipy.reconst.dti import TensorModel

    b0 = signals[:, table.b0].mean(axis=1, dtype=np.float64)
    least = _LEAST_SIGNAL * (float(b0.mean()) if b0_mean is None else b0_mean)
    fit = TensorModel(dipy_table(table), fit_method="OLS", min_signal=least).fit(signals)
    features = np.empty((len(signals), 3), np.float32)
    features[:, 0] = np.log(np.maximum(b0, least))
    features[:, 1] = np.log(np.maximum(fit.md, _LEAST_DIFFUSIVITY))
    features[:, 2] = np.nan_to_num(np.clip(fit.fa, 0.0, 1.0))
    return features
