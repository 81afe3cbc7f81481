"""The template: what healthy heads have in common, in a space that they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float32, Float64
from qspace_nd.errors import ArrayError
from qspace_nd.progress import SILENT, Progress, Task
from qspace_nd.registration.alignment import align
from qspace_nd.registration.images import SPACING, Images, interpolated, moved
from qspace_nd.registration.places import Registration, register
from qspace_nd.system.sharing import HERE, Each

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


def build_template(
    scans: Sequence[Images], progress: Progress = SILENT, each: Each = HERE
) -> Template:
    """Average healthy scans in a space between them.

    The scan of the middle volume is what all are aligned with first; the mean of their affines is
    the space in which they are averaged, and to that mean all are registered, `ROUNDS` times.

    Parameters
    ----------
    scans : sequence of Images
    progress : Progress
    each : Each
        What registers the scans; the sums over them are made here, in their order.

    Raises
    ------
    ArrayError
        There is no scan.
    """
    if not scans:
        raise ArrayError("There is no scan to make a template of; give one or more.")
    order = sorted(range(len(scans)), key=lambda i: np.count_nonzero(scans[i].mask))
    first = order[len(scans) // 2]
    middle, others = scans[first], [scan for i, scan in enumerate(scans) if i != first]
    with progress.task("Making the template", (1 + ROUNDS) * len(scans)) as task:
        task.advance()  # the middle one, which lies where it lies
        affines = []
        for affine in each(partial(align, target=middle), others, by_threads=True):
            affines.append(affine)
            task.advance()
        affines.insert(first, np.eye(4))
        centre = _mean_motion([np.linalg.inv(affine) for affine in affines])
        affines = [np.asarray(centre @ affine) for affine in affines]
        lattice = _lattice(middle, centre)
        placed = list(zip(scans, affines, strict=True))
        template = _cropped(_mean(each(partial(_moved_to, lattice), placed), lattice))
        for _ in range(ROUNDS):
            warped = each(partial(_warped_to, template), placed, by_threads=True)
            template = _mean(_told(warped, task), template)
    return template


Placed = tuple[Images, Float64]  # a scan and its affine


def _moved_to(lattice: Images, placed: Placed) -> Float32:
    """A scan's values and mask on a lattice's nodes, by its affine alone: (K + 1, N)."""
    scan, affine = placed
    return _brought(scan, Registration(affine, None), lattice)


def _warped_to(template: Images, placed: Placed) -> Float32:
    """The same by registration, from its affine on."""
    scan, affine = placed
    return _brought(scan, register(scan, template, affine=affine), template)


def _brought(scan: Images, registration: Registration, lattice: Images) -> Float32:
    nodes = moved(np.indices(lattice.mask.shape).reshape(3, -1).T, lattice.affine)
    found = np.concatenate([scan.values, scan.mask[None]])
    return interpolated(found, scan.affine, registration.back(nodes))


def _told(found: Iterable[Float32], task: Task) -> Iterator[Float32]:
    for one in found:
        yield one
        task.advance()


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


def _mean(brought: Iterable[Float32], lattice: Images) -> Template:
    """The mean of scans on the nodes of a lattice, over those that cover the node."""
    shape = lattice.mask.shape
    kinds, nodes = len(lattice.values) + 1, lattice.mask.size
    total, covering = np.zeros((kinds, nodes)), np.zeros(nodes)
    for values in brought:
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
