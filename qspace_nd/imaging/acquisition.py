"""What a model remembers of the scans that it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import GradientTable


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
        What channels are divided by, after division by each scan's mean: their means over the
        healthy voxels; see `Protocol.scales`.
    gradients : GradientTable or None
        The gradient table that every scan is brought to; None for channels without b-values.
    scans : tuple of HealthyScan
        The scans.
    resampled : bool
        Whether every scan is resampled to `gradients`.
    features : str
        What the channels are: `protocol.RAW` or `protocol.ROTATION_INVARIANT`.
    """

    channel_means: Float32
    gradients: GradientTable | None
    scans: tuple[HealthyScan, ...]
    resampled: bool = False
    features: str = "raw"

    def subject_of(self, digest: str) -> str | None:
        """Return the subject whose healthy scan has this content, None where no scan has it."""
        return next((scan.subject for scan in self.scans if scan.digest == digest), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        return {
            "channel_means": [float(mean) for mean in self.channel_means],
            "gradients": None if self.gradients is None else self.gradients.to_json(),
            "scans": [vars(scan) for scan in self.scans],
            "resampled": self.resampled,
            "features": self.features,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Acquisition:
        """Read what `to_json` returned."""
        gradients = data["gradients"]
        return Acquisition(
            channel_means=np.array(data["channel_means"], dtype=np.float32),
            gradients=None if gradients is None else GradientTable.from_json(gradients),
            scans=tuple(HealthyScan(**scan) for scan in data["scans"]),
            resampled=data.get("resampled", False),  # models of before were of raw volumes
            features=data.get("features", "raw"),
        )
