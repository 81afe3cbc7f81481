"""Where the voxels of healthy people and of patients lie: in a template of the healthy ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from nibabel.affines import apply_affine

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.diffusion.tensor import has_tensor, tissue_features
from qspace_nd.errors import ArrayError, GradientError, ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.protocol import RAW, Protocol
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.progress import Progress
from qspace_nd.registration.guard import Guard
from qspace_nd.registration.images import Images, images_of, shown_of
from qspace_nd.registration.picture import picture_png
from qspace_nd.registration.places import Registration, register
from qspace_nd.registration.template import Template, build_template
from qspace_nd.scores.catalogue import find_score
from qspace_nd.scores.views import Located
from qspace_nd.system.scratch import Scratch, ScratchArray
from qspace_nd.system.sharing import HERE, Each

LEAST_SUBJECTS = 4
"""How many people a template is made of at least, unless it is asked for."""

_RESIDUALS = "residuals"


def can_be_placed(protocol: Protocol) -> bool:
    """Whether scans of a protocol have what is registered.

    A tensor, of the volumes themselves; or the channel of a stack that was chosen for it.
    """
    if protocol.stack is not None:
        return protocol.stack.registered is not None
    return protocol.features == RAW and has_tensor(protocol.gradients)


def require_placeable(protocol: Protocol) -> None:
    """Check that scans of a protocol can be registered.

    Raises
    ------
    GradientError
        They cannot: no tensor can be fitted to what a model of them sees, or of channels without
        b-values none is named.
    """
    if protocol.stack is not None and protocol.stack.registered is None:
        raise GradientError(
            f"Scans without b-values are registered on one of their channels, which is to be "
            f"named; name one of {protocol.stack.describe()} with --register-on, or leave "
            f"--template out."
        )
    if not can_be_placed(protocol):
        found = "no b-values" if protocol.gradients is None else protocol.gradients.shells()
        raise GradientError(
            f"A template needs scans with b=0 and six directions or more, as volumes (--features "
            f"{RAW}); these have {found}: fit with --no-template."
        )


@dataclass(frozen=True, eq=False)
class Seen:
    """What of a scan is kept to place its voxels.

    Attributes
    ----------
    features : (n, K) ScratchArray
        Of the voxels.
    images : Images
    """

    features: ScratchArray
    images: Images


def see(voxels: Voxels, protocol: Protocol, scratch: Scratch) -> Seen:
    """Keep what will be registered of a scan whose channels are divided by its mean alone."""
    features, images = look(voxels, protocol)
    return Seen(scratch.keep(features), images)


def look(voxels: Voxels, protocol: Protocol) -> tuple[Float32, Images]:
    """What the tissue of voxels is like (n, K), and what is registered of them.

    By the tensor, or by the channels themselves where there are no b-values. The voxels' channels
    are divided by the scan's mean alone.

    Raises
    ------
    GradientError
        Scans of the protocol cannot be registered.
    ScanError
        This one cannot.
    """
    require_placeable(protocol)
    stack, signals, path = protocol.stack, voxels.values, voxels.scan.files.image
    if stack is not None:
        features, shown = stack.features(signals, path), stack.shown(signals, path)[:, None]
    else:
        assert protocol.gradients is not None
        features = tissue_features(signals, protocol.gradients)
        shown = shown_of(features)
    try:
        return features, images_of(shown, voxels.mask, voxels.scan.grid.affine)
    except ArrayError as error:  # a thin slab
        raise ScanError(f"{path} cannot be registered. {error}") from error


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a scan's voxels lie, where that is asked for; and what is wrong, in a sentence.

    Attributes
    ----------
    located : Located or None
    wrong : str or None
        Why it is not known, where it was asked for.
    """

    located: Located | None = None
    wrong: str | None = None

    def facts_of(self, score: str) -> dict[str, str]:
        """What the sidecar of a score's map says of it."""
        if self.wrong is None or not find_score(score).score.rests:
            return {}
        return {"PlaceNotUsed": self.wrong}


@dataclass(frozen=True, eq=False)
class Placer:
    """A template, and how the registrations of its own people went.

    Attributes
    ----------
    template : Template
    residuals : (m,) array
        Of these registrations.
    """

    template: Template
    residuals: Float64

    @staticmethod
    def of(
        images: Sequence[Images], progress: Progress, each: Each = HERE
    ) -> tuple[Placer, list[Registration]]:
        """Make a template of healthy scans; give how each lies in it too."""
        template = build_template(images, progress, each)
        known = partial(register, template=template, among=len(images))
        with progress.task("Registering scans", len(images)) as task:
            found = []
            for registration in each(known, images, by_threads=True):
                found.append(registration)
                task.advance()
        return Placer(template, np.array([one.residual for one in found])), found

    def to_arrays(self) -> dict[str, Any]:
        """Give what a model keeps."""
        return {**self.template.to_arrays(), _RESIDUALS: self.residuals}

    @staticmethod
    def from_arrays(arrays: Mapping[str, Any]) -> Placer:
        """Take what `to_arrays` gave.

        Raises
        ------
        ArrayError
            It is something else.
        """
        if _RESIDUALS not in arrays:
            raise ArrayError("The template has no residuals; fit the model anew.")
        residuals = np.asarray(arrays[_RESIDUALS], np.float64)
        Guard(residuals)
        return Placer(Template.from_arrays(arrays), residuals)

    def wrong(self, scan: Scan, protocol: Protocol, registration: Registration) -> str | None:
        """Say what is wrong with the registration of a scan in a protocol, if something is."""
        guard = Guard(self.residuals)
        if guard.trusts(registration.residual):
            return None
        what = "anisotropy" if protocol.stack is None else protocol.stack.told
        return guard.sentence(str(scan.files.image), registration.residual, what)

    def locate(self, voxels: Voxels, protocol: Protocol) -> Placement:
        """Find where a scan's voxels lie, or why that is not known.

        Their channels are divided by the scan's mean alone.
        """
        try:
            features, images = look(voxels, protocol)
        except ScanError as error:
            return Placement(wrong=str(error))
        registration = register(images, self.template)
        wrong = self.wrong(voxels.scan, protocol, registration)
        if wrong is not None:
            return Placement(wrong=wrong)
        points = points_of(registration, voxels.mask, voxels.scan.grid)
        return Placement(Located(torch.from_numpy(points), torch.from_numpy(features)))

    def draw(self, voxels: Voxels, protocol: Protocol, title: str) -> bytes:
        """Draw how a scan lies in the template, as the bytes of a PNG file.

        Its channels are divided by the scan's mean alone.
        """
        _, images = look(voxels, protocol)
        return picture_png(images, self.template, register(images, self.template), title)


def points_of(registration: Registration, mask: Bools, grid: Grid) -> Float32:
    """Where the voxels of a mask (X, Y, Z) lie in the template: (n, 3), mm."""
    return registration.at(apply_affine(grid.affine, np.argwhere(mask)))
