"""What `qspace-nd check` found in a scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qspace_nd.imaging.figures import Figures
from qspace_nd.imaging.scans import Scan


@dataclass(frozen=True)
class CheckedScan:
    """What was found in one scan.

    Attributes
    ----------
    image : Path
    name : str
        What to call it.
    facts, warnings : tuple of str
        One sentence each.
    problem : str or None
        Why the scan cannot be used.
    scan : Scan or None
        What its header and gradients tell, where they could be read.
    figures : Figures or None
        Of its quality, where its voxels could be read.
    differs : bool
        Whether it is unlike the model, or most scans.
    far : frozenset of str
        The attributes of `figures` that are far from those of the other scans.
    """

    image: Path
    name: str = ""
    facts: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str | None = None
    scan: Scan | None = None
    figures: Figures | None = None
    differs: bool = False
    far: frozenset[str] = frozenset()

    def lines(self) -> list[str]:
        """The report as lines of text."""
        problem = [] if self.problem is None else [f"Problem: {self.problem}"]
        return [*self.facts, *(f"Warning: {warning}" for warning in self.warnings), *problem]
