"""What training showed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

ALIVE = 0.01
"""Least variance of a latent's posterior mean over the data for the latent to count as alive.

Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (arXiv 1509.00519), section 5.2.
"""


@dataclass(frozen=True)
class History:
    """What training showed.

    Attributes
    ----------
    steps : int
        Steps taken.
    best_step : int
        Step whose weights were kept, the one of least validation loss.
    losses : list of (step, training loss, validation loss)
        Nats per voxel, one entry a look; the training loss is the mean since the look before.
    latent_kl : list of float, length d
        Kullback-Leibler divergence of each latent on the validation voxels, in nats.
    latents_alive : int
        Latents whose posterior mean has a variance above `ALIVE`.
    altered_auc : float or None
        How well held-out people's white matter, changed as disease changes it, is told from their
        voxels as they are, by the default score; None where that is not known.
    altered_auc_of_all : float or None
        The same by all healthy voxels, where the reference holds some of them alone.
    """

    steps: int
    best_step: int
    losses: list[tuple[int, float, float]]
    latent_kl: list[float]
    latents_alive: int
    altered_auc: float | None = None
    altered_auc_of_all: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the history as plain data."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> History:
        """Read what `to_json` returned."""
        losses = [(int(step), float(a), float(b)) for step, a, b in data["losses"]]
        return History(**(data | {"losses": losses}))

    @property
    def validation_loss(self) -> float:
        """The least validation loss, in nats per voxel."""
        return min(validation for _, _, validation in self.losses)

    @property
    def late_fall(self) -> float:
        """Share of the fall of the validation loss that the last tenth of training brought.

        A share, because a nat is much or little by the channels' number and noise.
        """
        late = [validation for step, _, validation in self.losses if step > 0.9 * self.steps]
        before = [validation for step, _, validation in self.losses if step <= 0.9 * self.steps]
        if not late or not before or min(late) >= min(before):
            return 0.0
        return (min(before) - min(late)) / (before[0] - min(late))

    @property
    def still_falling(self) -> bool:
        """Whether the last tenth of training brought over 1 % of the fall."""
        return self.late_fall > 0.01
