"""What a score is told beside the signal: where voxels lie, and which change is looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from qspace_nd.diffusion.changes import Alteration, find_change
from qspace_nd.diffusion.tensor import TISSUE, TISSUE_WEIGHTS, has_tensor
from qspace_nd.errors import InputError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.protocol import RAW
from qspace_nd.imaging.stack import Rise
from qspace_nd.scores.base import Score
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Views


def directed(rule: Score, toward: str | None, acquisition: Acquisition | None) -> Score:
    """The rule, which looks for the change `toward` where it looks for any.

    Raises
    ------
    InputError
        It needs a change and none is stated, there is none of that name, or the model's channels
        are none that a tensor can be fitted to.
    """
    if not rule.needs_change:
        return rule
    if toward is None:
        raise InputError(
            "A directed score needs the change that is looked for; state it, with --toward "
            "demyelination for instance."
        )
    return rule.toward(change_of(toward, acquisition))


def unplaced(name: str, rule: Score) -> Score:
    """What is left of a score where it is not known where voxels lie.

    Raises
    ------
    InputError
        Nothing is.
    """
    left = rule.without_place()
    if left is None:
        raise InputError(
            f"The score {name} is of the place alone, and it is not known where the scan's voxels "
            f"lie; map it by another score, such as latent-distance."
        )
    return left


@dataclass(frozen=True)
class Features:
    """The quantities that tell a model what tissue is like (`views.Located`).

    Attributes
    ----------
    names : tuple of str
    weights : tuple of float
        What each counts for in the view `placed`.
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]

    @staticmethod
    def of(acquisition: Acquisition | None) -> Features:
        """Those of the tensor; of scans without b-values the channels, which count alike."""
        if acquisition is None or acquisition.stack is None:
            return Features(TISSUE, TISSUE_WEIGHTS)
        names = acquisition.stack.names
        return Features(names, (1.0,) * len(names))


@lru_cache(maxsize=8)  # so that what is made for a change is found again
def change_of(toward: str, acquisition: Acquisition | None) -> Alteration | Rise:
    """The change that is written as `toward`, of a model of these scans: a `scores.base.Shift`.

    Of the tensor, or of channels where the scans have no b-values.

    Raises
    ------
    InputError
        There is none of that name, or no tensor can be fitted to the model's channels.
    """
    if acquisition is not None and acquisition.stack is not None:
        return acquisition.stack.toward(toward)
    change = find_change(toward)
    if acquisition is None or acquisition.features != RAW or not has_tensor(acquisition.gradients):
        raise InputError(
            f"The change {toward} cannot be looked for: it is one of the diffusion tensor, and the "
            f"model's channels are no volumes at b=0 and six directions or more."
        )
    assert acquisition.gradients is not None
    return Alteration(change, acquisition.gradients, acquisition.channel_means)


def require_places(names: Sequence[str], healthy: Reference, voxels: Views) -> None:
    """Check that it is known where voxels lie, for what needs it.

    Raises
    ------
    InputError
        It is not.
    """
    if names and not healthy.is_located:
        raise InputError(
            f"{names[0]} needs places, and the model has no template; fit it again on four people "
            f"or more, with --template."
        )
    if names and not voxels.is_located:
        raise InputError(f"{names[0]} needs places; say where the voxels lie (located).")
