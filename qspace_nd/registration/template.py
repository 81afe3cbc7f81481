"""The template: what healthy heads have in common, in a space that they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float64
from qspace_nd.errors import ArrayError
from qspace_nd.progress import SILENT, Progress
from qspace_nd.registration.alignment import align
from qspace_nd.registration.images import SPACING, Images, interpolated, moved
from qspace_nd.registration.places import Registration, register
from qspace_nd.system.threads import workers

ROUNDS = 2
"""How often all scans are registered to their mean."""

_MARGIN = 21.0  # mm around the mean brain, so that larger ones fit
_REACH = 45.0  # mm around the first scan's lattice where others may lie


@dataclass(frozen=True, eq=False)
class Template(Images):
    """The mean of healthy scans after registration, on a lattice along the world's axes.

    Attributes
    ----------
    values : array (M, X, Y, Z) float32
        Means of the scans' values; what is registered first.
    mask : array (X, Y, Z) bool
        Where at least half of the scans have brain.
    affine : array (4, 4)
        From the lattice's indices to mm in the common space.
    """

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Give what there is to store, by name."""
        return {
            "values": np.ascontiguousarray(self.values, np.float32),
            "mask": np.ascontiguousarray(self.mask, np.uint8),
            "affine": np.ascontiguousarray(self.affine, np.float64),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Template:
        """Take what `to_arrays` gave.

        Raises
        ------
        ArrayError
            An array is absent, of another type or shape, or holds what no template does.
        """
        for name, wanted in (("values", np.float32), ("mask", np.uint8), ("affine", np.float64)):
            if name not in arrays:
                raise ArrayError(f"The template has no {name!r}; fit the model anew.")
            if arrays[name].dtype != wanted:
                raise ArrayError(
                    f"The template's {name!r} is of type {arrays[name].dtype} where "
                    f"{np.dtype(wanted)} was expected; fit the model anew."
                )
        values, mask, affine = (arrays[name] for name in ("values", "mask", "affine"))
        lattice = values.ndim == 4 and len(values) > 0 and values.shape[1:] == mask.shape
        shaped = lattice and affine.shape == (4, 4)
        if not shaped:
            raise ArrayError(
                f"The template's values have the shape {values.shape}, its mask {mask.shape} and "
                f"its affine {affine.shape}; expected (M, X, Y, Z), (X, Y, Z) and (4, 4): fit the "
                "model anew."
            )
        whole = np.isfinite(values).all() and np.isfinite(affine).all()
        if not (whole and mask.any() and abs(np.linalg.det(affine)) > 0):
            raise ArrayError(
                "The template is empty, lies nowhere, or is not finite; fit the model anew."
            )
        return cls(values, mask != 0, affine)


def build_template(scans: Sequence[Images], progress: Progress = SILENT) -> Template:
    """Average healthy scans in a space between them.

    The scan of the middle volume is what all are aligned with first; the mean of their affines is
    the space in which they are averaged, and to that mean all are registered, `ROUNDS` times.

    Parameters
    ----------
    scans : sequence of Images
    progress : Progress

    Raises
    ------
    ArrayError
        There is no scan.
    """
    if not scans:
        raise ArrayError("There is no scan to make a template of; give one or more.")
    order = sorted(range(len(scans)), key=lambda i: np.count_nonzero(scans[i].mask))
    middle = scans[order[len(scans) // 2]]
    with progress.task("Making the template", (1 + ROUNDS) * len(scans)) as task, workers() as pool:
        affines = []
        for affine in pool.map(partial(_aligned, middle), scans):
            affines.append(affine)
            task.advance()
        centre = _mean_motion([np.linalg.inv(affine) for affine in affines])
        affines = [np.asarray(centre @ affine) for affine in affines]
        lattice = _lattice(middle, centre)
        registered = [Registration(affine, None) for affine in affines]
        template = _cropped(_mean(scans, registered, lattice))
        for _ in range(ROUNDS):
            registered = []
            for one in pool.map(partial(_registered, template), scans, affines):
                registered.append(one)
                task.advance()
            template = _mean(scans, registered, template)
    return template


def _aligned(target: Images, scan: Images) -> Float64:
    return np.eye(4) if scan is target else align(scan, target)


def _registered(template: Images, scan: Images, affine: Float64) -> Registration:
    return register(scan, template, affine=affine)


def _mean_motion(affines: Sequence[NDArray[Any]]) -> Float64:
    """The affine in the middle of several: the exponential of their logarithms' mean."""
    from scipy.linalg import expm, logm

    return np.asarray(expm(np.mean([np.real(logm(affine)) for affine in affines], axis=0)))


def _lattice(middle: Images, centre: Float64) -> Images:
    """An empty lattice along the world's axes around the middle scan, wherever others may lie."""
    shape = middle.mask.shape
    corners = moved(np.argwhere(np.ones((2, 2, 2))) * (np.array(shape) - 1), middle.affine)
    corners = moved(corners, centre)
    low = corners.min(axis=0) - _REACH
    nodes = np.ceil((corners.max(axis=0) + _REACH - low) / SPACING).astype(int) + 1
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = low
    empty = np.zeros((len(middle.values), *nodes), np.float32)
    return Images(empty, np.zeros(nodes, bool), affine)


def _mean(scans: Sequence[Images], registered: Sequence[Registration], lattice: Images) -> Template:
    """The mean of scans where they are brought, over those that cover the place."""
    shape = lattice.mask.shape
    nodes = moved(np.indices(shape).reshape(3, -1).T, lattice.affine)
    kinds = len(lattice.values) + 1
    total, covering = np.zeros((kinds, len(nodes))), np.zeros(len(nodes))
    for one, registration in zip(scans, registered, strict=True):
        found = np.concatenate([one.values, one.mask[None]])
        values = interpolated(found, one.affine, registration.back(nodes))
        covered = np.isfinite(values[0])
        total += np.where(covered, values, 0)
        covering += covered
    mean = (total / np.maximum(covering, 1)).astype(np.float32).reshape(kinds, *shape)
    return Template(mean[:-1], mean[-1] >= 0.5, lattice.affine)


def _cropped(template: Template) -> Template:
    """Cut to the mean brain and a margin."""
    from scipy import ndimage

    (box,) = ndimage.find_objects(template.mask.astype(np.uint8))
    margin = round(_MARGIN / SPACING)
    sides = [slice(max(0, side.start - margin), side.stop + margin) for side in box]
    affine = template.affine.copy()
    affine[:3, 3] += SPACING * np.array([side.start for side in sides])
    return Template(template.values[:, *sides], template.mask[*sides], affine)
