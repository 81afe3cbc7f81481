"""What a model remembers of the scans that it was fitted on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.conditions import Conditions
from qspace_nd.imaging.stack import Stack
from qspace_nd.layouts.person import Person


@dataclass(frozen=True)
class HealthyScan:
    """One healthy scan: its name, subject, content's hash, voxels, how it was made, and of whom."""

    name: str
    subject: str
    digest: str
    voxels: int
    conditions: Conditions | None = None
    age: float | None = None
    sex: str | None = None

    @property
    def person(self) -> Person:
        """What is known of whose scan it is."""
        return Person(self.age, self.sex)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        how = None if self.conditions is None else self.conditions.to_json()
        return {**vars(self), "conditions": how}

    @staticmethod
    def from_json(data: dict[str, Any]) -> HealthyScan:
        """Read what `to_json` returned."""
        how = data.get("conditions")  # models of before do not tell
        return HealthyScan(
            **{**data, "conditions": None if how is None else Conditions.from_json(how)}
        )


@dataclass(frozen=True, eq=False)
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
    stack : Stack or None
        What they are called, and which is registered, where they have no b-values.
    """

    channel_means: Float32
    gradients: GradientTable | None
    scans: tuple[HealthyScan, ...]
    resampled: bool = False
    features: str = "raw"
    stack: Stack | None = None

    def subject_of(self, digest: str) -> str | None:
        """Return the subject whose healthy scan has this content, None where no scan has it."""
        return next((scan.subject for scan in self.scans if scan.digest == digest), None)

    @property
    def conditions(self) -> list[Conditions]:
        """How the healthy scans were made, of those of which it is known."""
        return [scan.conditions for scan in self.scans if scan.conditions is not None]

    @property
    def people(self) -> list[Person]:
        """What is known of the healthy people."""
        return [scan.person for scan in self.scans]

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        return {
            "channel_means": [float(mean) for mean in self.channel_means],
            "gradients": None if self.gradients is None else self.gradients.to_json(),
            "scans": [scan.to_json() for scan in self.scans],
            "resampled": self.resampled,
            "features": self.features,
            "stack": None if self.stack is None else self.stack.to_json(),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Acquisition:
        """Read what `to_json` returned."""
        gradients, stack = data["gradients"], data.get("stack")
        if gradients is None and stack is None:  # models of before had no names of channels
            stack = Stack.of(len(data["channel_means"])).to_json()
        return Acquisition(
            channel_means=np.array(data["channel_means"], dtype=np.float32),
            gradients=None if gradients is None else GradientTable.from_json(gradients),
            scans=tuple(HealthyScan.from_json(scan) for scan in data["scans"]),
            resampled=data.get("resampled", False),  # models of before were of raw volumes
            features=data.get("features", "raw"),
            stack=None if stack is None else Stack.from_json(stack),
        )
