"""Whether a scan's registration went wrong, by how the controls' went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Float64
from qspace_nd.errors import ArrayError

# Of 13 left-out people with simulated signal the residuals lay from 0.93 to 1.13 of the controls'
# median, those of the affine alone from 1.6 on, those of places 8 mm away from 4.4 on.
_MORE = 0.35
_DEVIATIONS = 4.0


@dataclass(frozen=True, eq=False)
class Guard:
    """What residuals registrations have that went well.

    Attributes
    ----------
    residuals : array (n,)
        Of the controls against the template, each's own share of it taken out.

    Raises
    ------
    ArrayError
        There is none, or one is not between 0 and 2.
    """

    residuals: Float64

    def __post_init__(self) -> None:
        residuals = self.residuals
        if residuals.ndim != 1 or not len(residuals) or not (0 <= residuals.min() <= 2):
            raise ArrayError(
                f"The residuals of the controls are {residuals}; expected one of each, from 0 to 2."
            )

    @property
    def middle(self) -> float:
        """The median of the controls' residuals."""
        return float(np.median(self.residuals))

    @property
    def limit(self) -> float:
        """The largest residual of a registration that is trusted.

        35 % above the median of the controls', or four of their standard deviations (by the median
        absolute deviation, so that a control that went wrong does not widen it).
        """
        deviation = 1.4826 * float(np.median(np.abs(self.residuals - self.middle)))
        return self.middle + max(_MORE * self.middle, _DEVIATIONS * deviation)

    def trusts(self, residual: float) -> bool:
        """Whether a scan of this residual lies where its registration says."""
        return bool(residual <= self.limit)

    def sentence(self, name: str, residual: float, registered: str) -> str:
        """Say of a scan that is not trusted what was found, what was expected and what to do.

        `registered` is what it was registered by: its anisotropy, or a channel.
        """
        return (
            f"{name} does not lie well in the template: its {registered} differs by {residual:.2f} "
            f"from the template's, the controls' by {self.middle:.2f}, and up to {self.limit:.2f} "
            "is trusted; look at the picture of its registration, and at how the head lies in the "
            "scan."
        )
