"""Whether the volumes of a scan are as bright as their b-values say: else the table is another's.

The signal at b=0 is above that of any weighted volume, and a shell's below that of any lower one.
In 12 whole brains of four makers (b=930 to 2000) the darkest b=0 volume had 2.6 to 4.2 times the
mean of the brightest weighted volume, in three small pieces of brain 1.4 (b=310), 2.2 and 5.8, in
simulated heads 2.0 to 3.5. With b-values shifted by one volume, or b=0 written first and stored
last, it was 0.21 to 0.41, and 0.72 in the piece whose lowest shell is b=310.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from qspace_nd.arrays import Float32, Float64, Ints
from qspace_nd.diffusion.gradients import GradientTable, name_volumes
from qspace_nd.errors import ScanError

LEAST_RATIO = 0.9
"""How bright the signal at b=0 has to be, as a share of any weighted volume's (figures above).

Below 1, so that neither noise nor drift is taken for another table at the lowest b-values.
"""

_APART = 1.5  # shells' b-values, beyond which the one's mean signal is surely below the other's
_ROWS = 20_000  # voxels whose mean tells


def require_falling(path: Path, values: Float32, order: Ints, table: GradientTable) -> None:
    """Check that b=0 volumes are the brightest, and shells the darker the higher their b-value.

    Parameters
    ----------
    path : Path
        The scan, for the message.
    values : (n, C) array
    order : (C,) array of int
        Which volume of the file each channel is.
    table : GradientTable
        Of the C volumes of the file.

    Raises
    ------
    ScanError
        They are not.
    """
    means = np.empty(values.shape[1])  # by volume
    means[order] = values[:: max(1, len(values) // _ROWS)].mean(axis=0, dtype=np.float64)
    _require_brightest_b0(path, means, table)
    weighted = [shell for shell in table.shell_volumes() if not table.b0[shell].any()]
    for low, high in pairwise(weighted):
        apart = np.median(table.bvals[high]) > _APART * np.median(table.bvals[low])
        if apart and means[low].mean() < LEAST_RATIO * means[high].mean():
            raise _wrong(
                path,
                f"a mean signal of {means[low].mean():.4g} at b={np.median(table.bvals[low]):.0f}, "
                f"below the {means[high].mean():.4g} at b={np.median(table.bvals[high]):.0f}",
            )


def _require_brightest_b0(path: Path, means: Float64, table: GradientTable) -> None:
    unweighted, weighted = np.flatnonzero(table.b0), np.flatnonzero(~table.b0)
    if not len(unweighted) or not len(weighted):
        return
    brightest = means[weighted].max()
    dark = unweighted[means[unweighted] < LEAST_RATIO * brightest]
    bright = weighted[means[weighted] * LEAST_RATIO > means[unweighted].min()]
    if len(dark):
        raise _wrong(
            path,
            f"a mean signal of {means[dark].min():.4g} at b=0 in "
            f"{name_volumes(dark)}, below the {brightest:.4g} of weighted "
            f"{name_volumes(bright[np.argsort(-means[bright], kind='stable')])}",
        )


def _wrong(path: Path, found: str) -> ScanError:
    return ScanError(
        f"{path} has {found}; expected the signal to fall with the b-value: check that the "
        "b-values are this scan's, and in the order of its volumes."
    )
