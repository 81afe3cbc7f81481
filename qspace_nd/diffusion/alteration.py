"""Healthy signal changed as disease changes it: known novelty without any lesion label."""

from __future__ import annotations

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import B0_LIMIT, GradientTable
from qspace_nd.errors import GradientError

# What full severity does; it lies evenly between none and full.
_T2_LOG_GAIN = 0.4  # of log S: T2 from 75 to 112 ms at an echo time of 90 ms
_DIFFUSIVITY = 0.4e-3  # mm²/s more, in every direction
_ISOTROPY = 0.7  # of the difference between the tensor's eigenvalues

_WHITE_MATTER = 0.3  # least FA: lower, grey matter is among it
_TISSUE = 1.2e-3  # mm²/s: the most mean diffusivity; tissue lies near 0.8e-3, water at 3e-3

_LEAST_DIRECTIONS = 6  # a tensor has as many elements


def require_tensor(table: GradientTable) -> None:
    """Check that a diffusion tensor can be fitted.

    Raises
    ------
    GradientError
        The table has no b=0 volume or too few directions.
    """
    weighted = np.count_nonzero(~table.b0)
    if weighted < _LEAST_DIRECTIONS or weighted == len(table.b0):
        raise GradientError(
            f"Settings cannot be tuned on scans with {table.shells()}: a diffusion tensor, by "
            f"which healthy signal is changed, needs b=0 and {_LEAST_DIRECTIONS} directions or "
            f"more; fit without --tune."
        )


def alter(signals: Float32, table: GradientTable, random: np.random.Generator) -> Float32:
    """Change the signal of healthy white matter as demyelination or oedema would.

    A diffusion tensor is fitted to each voxel and its prediction changed: the signal moves by the
    difference, so that its noise, and what the tensor does not describe, stay as they are. By one
    random severity for each voxel, T2 gets longer, which scales all channels; the diffusivity
    higher; and the anisotropy lower.

    Parameters
    ----------
    signals : (n, C) array
        In one unit for all channels.
    table : GradientTable
        Of the C channels.
    random : numpy Generator

    Returns
    -------
    (m, C) array
        The changed signals of those voxels that are white matter: FA above 0.3, mean diffusivity
        below 1.2e-3 mm²/s.

    Raises
    ------
    GradientError
        No tensor can be fitted.
    """
    from dipy.core.gradients import gradient_table
    from dipy.reconst.dti import TensorModel, tensor_prediction

    require_tensor(table)
    gradients = gradient_table(
        np.where(table.b0, 0.0, table.bvals), bvecs=table.directions, b0_threshold=B0_LIMIT
    )
    fit = TensorModel(gradients, fit_method="WLS", return_S0_hat=True).fit(signals)
    white = np.asarray((fit.fa > _WHITE_MATTER) & (fit.md < _TISSUE))
    healthy, s0 = fit.model_params[white], fit.S0_hat[white]
    severity = random.random((len(s0), 1))
    changed = healthy.copy()
    mean = healthy[:, :3].mean(axis=1, keepdims=True)
    changed[:, :3] += severity * (_ISOTROPY * (mean - healthy[:, :3]) + _DIFFUSIVITY)
    moved = tensor_prediction(changed, gradients, s0 * np.exp(_T2_LOG_GAIN * severity[:, 0]))
    moved -= tensor_prediction(healthy, gradients, s0)
    return np.asarray(signals[white] + moved, dtype=np.float32)
