"""A picture of a registration: the template's white matter outlined on the scan's anisotropy."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.registration.images import Images, interpolated, moved
from qspace_nd.registration.places import Registration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OUTLINE = "#E69F00"
"""The colour of the template's outlines."""

_PLANES = (("sagittal", 0), ("coronal", 1), ("axial", 2))
_CUTS = (0.3, 0.5, 0.7)  # of the brain's extent, from one end to the other
_WHITE_MATTER = 0.3  # anisotropy that the template's white matter has and its grey matter has not
_WINDOW = 0.8  # anisotropy drawn white
_PANEL = 1.5  # inches


def picture(images: Images, template: Images, registration: Registration, title: str) -> Figure:
    """Draw nine slices of the scan with the template's outlines where they were brought.

    Three planes, three slices of each: the anisotropy in grey, the edges of the template's white
    matter (anisotropy above 0.3) over it, in radiological convention. Where a registration is good
    the edges follow the bright tracts.

    Parameters
    ----------
    images, template : Images
    registration : Registration
        Of the scan to the template.
    title : str
        Whose scan it is.

    Returns
    -------
    matplotlib.figure.Figure
    """
    from matplotlib.figure import Figure

    nodes = moved(np.indices(images.mask.shape).reshape(3, -1).T, images.affine)
    theirs = interpolated(template.values[:1], template.affine, registration.at(nodes))
    outlined = np.nan_to_num(theirs).reshape(images.mask.shape)
    side = len(_CUTS) * _PANEL
    figure = Figure(figsize=(side, side + 0.4), layout="constrained", facecolor="black")
    axes = figure.subplots(len(_PLANES), len(_CUTS))
    for row, (name, axis) in zip(axes, _PLANES, strict=True):
        for panel, index in zip(row, _cuts(images.mask, axis), strict=True):
            grey, lines = (_plane(one, axis, index) for one in (images.registered, outlined))
            panel.imshow(grey, cmap="gray", vmin=0, vmax=_WINDOW, origin="lower")
            if lines.min() < _WHITE_MATTER < lines.max():
                panel.contour(lines, [_WHITE_MATTER], colors=OUTLINE, linewidths=0.6)
            panel.set_axis_off()
            panel.set_aspect("equal")
        row[0].set_title(name, color="white", fontsize=7, loc="left", pad=2)
    figure.suptitle(
        f"{title}: anisotropy, and the template's white matter", color="white", fontsize=8
    )
    return figure


def picture_png(images: Images, template: Images, registration: Registration, title: str) -> bytes:
    """Draw the same as the bytes of a PNG file; the same input gives the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = picture(images, template, registration, title)
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return file.getvalue()


def _cuts(mask: Bools, axis: int) -> list[int]:
    """Indices of the slices across `axis`, at shares of the brain's extent."""
    others = tuple(other for other in range(3) if other != axis)
    inside = np.flatnonzero(mask.any(axis=others))
    return [round(inside[0] + cut * (inside[-1] - inside[0])) for cut in _CUTS]


def _plane(values: Float32, axis: int, index: int) -> Float32:
    """One slice as rows upwards, the patient's right on the left where right is shown."""
    plane = np.take(values, index, axis=axis).T
    return np.asarray(plane if axis == 0 else plane[:, ::-1])
