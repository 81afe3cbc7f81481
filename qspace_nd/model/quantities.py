"""What a scan's signals say in words that a reader knows: the quantities that `--explain` tells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.shells import named_shells, shell_features
from qspace_nd.diffusion.tensor import has_tensor, tissue_features
from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import RAW
from qspace_nd.model.knowledge import Features


@dataclass(frozen=True, eq=False)
class Quantities:
    """Quantities of voxels: those of the tensor and of each shell, or of the channels of a stack.

    A voxel's are of its own signal alone, whatever voxels it is among.

    Attributes
    ----------
    acquisition : Acquisition
        Of the model's scans.
    names : tuple of str
        Of those of `tissue`, and then of `shells`.
    """

    acquisition: Acquisition
    names: tuple[str, ...]

    @staticmethod
    def of(acquisition: Acquisition | None) -> Quantities:
        """Those of scans like a model's.

        Raises
        ------
        InputError
            Nothing can be told of them.
        """
        table = None if acquisition is None else acquisition.gradients
        if acquisition is not None and acquisition.stack is not None:
            _require_bright(acquisition)
            return Quantities(acquisition, Features.of(acquisition).names)
        if acquisition is None or acquisition.features != RAW or not has_tensor(table):
            raise InputError(
                f"What is above and below the healthy (--explain) is told by the diffusion tensor, "
                f"and the model's channels are no volumes at b=0 and six directions or more; leave "
                f"it out, or fit a model on such scans with --features {RAW}."
            )
        assert table is not None
        return Quantities(acquisition, (*Features.of(acquisition).names, *named_shells(table)))

    def tissue(self, x: Float32) -> Float32:
        """What `views.Located` has as features, of channel-normalised signals (n, C): (n, K)."""
        table, means = self.acquisition.gradients, self.acquisition.channel_means
        if table is not None:
            return tissue_features(x * means, table, float(means[table.b0].mean()))
        assert self.acquisition.stack is not None
        return self.acquisition.stack.logarithms(x * means, means)

    def shells(self, x: Float32) -> Float32:
        """What else there is: the logarithm of the mean of each shell, (n, S)."""
        table = self.acquisition.gradients
        if table is None:
            return np.empty((len(x), 0), np.float32)
        return shell_features(x * self.acquisition.channel_means, table)


def _require_bright(acquisition: Acquisition) -> None:
    """Check that the channels of a stack have logarithms."""
    if not acquisition.channel_means.min() > 0:
        raise InputError(
            f"What is above and below the healthy (--explain) is told by the logarithm of each "
            f"channel, and the model's have a mean of {acquisition.channel_means.min():.3g}; leave "
            f"it out, or fit on channels that are scaled otherwise."
        )
