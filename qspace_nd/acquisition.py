"""What a model remembers of the scans that it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.gradients import GradientTable


@dataclass(frozen=True)
class HealthyScan:
    """The identity of one healthy scan: its name, its subject, its content's hash, its voxels."""

    name: str
    subject: str
    digest: str
    voxels: int


@dataclass(frozen=True)
class Acquisition:
    """How the healthy scans were acquired and normalised.

    Attributes
    ----------
    channel_means : (C,) array
        Mean of each channel over the healthy voxels, after division by each scan's mean.
    gradients : GradientTable or None
        The gradient table that every scan is brought to; None for channels without b-values.
    scans : tuple of HealthyScan
        The scans.
    """

    channel_means: NDArray[np.float32]
    gradients: GradientTable | None
    scans: tuple[HealthyScan, ...]

    def subject_of(self, digest: str) -> str | None:
        """Return the subject whose healthy scan has this content, None where no scan has it."""
        return next((scan.subject for scan in self.scans if scan.digest == digest), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        return {
            "channel_means": [float(mean) for mean in self.channel_means],
            "gradients": None if self.gradients is None else self.gradients.to_json(),
            "scans": [vars(scan) for scan in self.scans],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Acquisition:
        """Read what `to_json` returned."""
        gradients = data["gradients"]
        return Acquisition(
            channel_means=np.array(data["channel_means"], dtype=np.float32),
            gradients=None if gradients is None else GradientTable.from_json(gradients),
            scans=tuple(HealthyScan(**scan) for scan in data["scans"]),
        )
