"""Volumes as text inside a page: cropped to the brain, in few bits a voxel, deflated."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.imaging.anatomy import near

THUMBNAIL = 64
"""How high a thumbnail is shown, and how many pixels it has at most across, about."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The part of a grid that a page shows: the brain, and a little around it.

    Attributes
    ----------
    mask, near : array (x, y, z) bool
        The brain, and what is near it (`imaging.anatomy.near`): all that is shown of the anatomy,
        so that no face is. Both are cropped to the latter.
    box : tuple of 3 slices
        Where they lie in the grid.
    affine : array (4, 4)
        From indices in the box to mm of the world.
    """

    mask: Bools
    near: Bools
    box: tuple[slice, ...]
    affine: Float64

    @staticmethod
    def of(mask: Bools, affine: Float64) -> Frame:
        """The frame of a mask (X, Y, Z), some of which is True."""
        around = near(mask, np.linalg.norm(affine[:3, :3], axis=0))
        box = ndimage.find_objects(around.astype(np.uint8))[0]
        to_world = affine.copy()
        to_world[:3, 3] += affine[:3, :3] @ [side.start for side in box]
        return Frame(mask[box], around[box], box, to_world)

    def facts(self) -> dict[str, Any]:
        """What a page has to know of it.

        Its voxels are counted along the array's axes that are closest to x, y and z of the world,
        the first at the left, back and bottom: `room` says how many there are along each, `sizes`
        how many mm one is, `origin` where the first lies among the voxels as they are stored (C
        order), and `steps` how many of these one step along each is. `affine` goes from such counts
        to mm, `inverse` back.
        """
        orientation, shape = io_orientation(self.affine), self.mask.shape
        closest, strides = _closest(self.affine).tolist(), [shape[1] * shape[2], shape[2], 1]
        steps = [int(orientation[axis, 1]) * strides[axis] for axis in closest]
        room = [shape[axis] for axis in closest]
        affine = self.affine @ inv_ornt_aff(orientation, shape)
        return {
            "shape": list(shape),
            "room": room,
            "sizes": np.linalg.norm(affine[:3, :3], axis=0).tolist(),
            "origin": sum(-step * (n - 1) for step, n in zip(steps, room, strict=True) if step < 0),
            "steps": steps,
            "affine": affine.tolist(),
            "inverse": np.linalg.inv(affine).tolist(),
            "voxel": abs(float(np.linalg.det(self.affine[:3, :3]))),  # mm³
            "mask": bits(self.mask),
            "near": bits(self.near),
        }

    def inside(self, volume: NDArray[Any], *, near: bool = False) -> Float64:
        """The values of a volume (X, Y, Z) in the mask, or in what is near it, in C order."""
        return np.asarray(volume[self.box][self.near if near else self.mask], np.float64)


def packed(array: NDArray[Any]) -> str:
    """An array's bytes as text."""
    return base64.b64encode(zlib.compress(array.tobytes(), 9)).decode()


def bits(mask: Bools) -> str:
    """A mask as text: its voxels in C order, eight a byte, the first lowest."""
    return packed(np.packbits(mask, bitorder="little"))


def volume(
    values: Float64,
    depth: int,
    span: tuple[float, float],
    *,
    near: bool = False,
    edges: Sequence[float] = (),
) -> dict[str, Any]:
    """Values (n,) in a number of bits each: what lies beyond the span becomes its end.

    Parameters
    ----------
    values : array (n,)
        Of the voxels of a frame's mask, or of what is `near` it.
    depth : 8 or 16
    span : (low, high)
    edges : sequence of float
        Values, farther apart than a step, that none crosses when it is rounded: what is above one
        stays above it.
    """
    low, high = span
    levels = 2**depth - 1
    step = (high - low) / levels if high > low else 1.0
    codes = np.rint((values - low) / step).clip(0, levels).astype(np.int64)
    for edge in edges:
        shown = low + step * codes
        codes += (values > edge) & (shown <= edge)
        codes -= (values <= edge) & (shown > edge)
    code = codes.clip(0, levels)
    planes = [code >> 8, code & 255] if depth == 16 else [code]  # alike bytes beside each other
    data = packed(np.concatenate(planes).astype(np.uint8))
    return {"near": near, "bits": depth, "low": low, "step": step, "data": data}


def thumbnail(values: Float32, mask: Bools, affine: Float64, most: float) -> dict[str, Any]:
    """The highest values from top to bottom of a brain, as a small picture from above.

    Rows run from front to back, columns from the right to the left. It is black outside; inside,
    dark grey to yellow stand for 0 to `most`.

    Returns
    -------
    dict
        `png`, the picture as an address; and its `width` on a page, in pixels, for a height of
        `THUMBNAIL`.
    """
    shown = np.zeros(mask.shape)
    shown[mask] = 1 + 254 * np.clip(values / most, 0, 1)
    upright = apply_orientation(shown, io_orientation(affine))
    plane = upright.max(axis=2).T[::-1, ::-1]
    inside = np.nonzero(plane)
    plane = plane[tuple(slice(side.min(), side.max() + 1) for side in inside)]
    by = -(-max(plane.shape) // THUMBNAIL)
    for axis in (0, 1):
        plane = np.maximum.reduceat(plane, np.arange(0, plane.shape[axis], by), axis=axis)
    rows, columns = plane.shape
    sizes = np.linalg.norm(affine[:3, :3], axis=0)[_closest(affine)]
    width = round(float(THUMBNAIL * columns * sizes[0] / (rows * sizes[1])))
    picture = Image.fromarray(plane.astype(np.uint8))
    picture.putpalette(_palette().tobytes())
    stream = BytesIO()
    picture.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return {"png": f"data:image/png;base64,{data}", "width": width}


def _palette() -> NDArray[np.uint8]:
    """The colours (256, 3) of a thumbnail: greys, and from the middle on towards yellow."""
    level = np.arange(256.0)
    bright, warm = np.where(level, 40 + 0.84 * level, 0), np.clip((level - 128) / 127, 0, 1)
    colours = [bright, bright * (1 - 0.15 * warm), bright * (1 - 0.9 * warm)]
    return np.stack(colours, axis=1).astype(np.uint8)


def _closest(affine: Float64) -> NDArray[Any]:
    """The array's axis that is closest to each world axis."""
    return np.argsort(io_orientation(affine)[:, 0])
