"""Whether a scan's registration went wrong, by how the controls' went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qspace_nd.arrays import Float64

_TIMES = 1.6


@dataclass(frozen=True, eq=False)
class Guard:
    """What residuals registrations that went well have.

    Attributes
    ----------
    residuals : array (n,)
        Of the controls, each against the template.
    """

    residuals: Float64

    @property
    def limit(self) -> float:
        """The largest residual of a registration that is trusted."""
        return float(_TIMES * np.max(self.residuals))

    def trusts(self, residual: float) -> bool:
        """Whether a scan of this residual lies where its registration says."""
        return residual <= self.limit

    def sentence(self, name: str, residual: float) -> str:
        """Say of a scan that is not trusted what was found and what to do."""
        return (
            f"{name} does not lie well in the template: its anisotropy differs by "
            f"{residual:.3f} from it, the controls' by {np.median(self.residuals):.3f} in the "
            f"median and {self.limit:.3f} are trusted; look at the picture of its registration."
        )
