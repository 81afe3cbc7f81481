from __future__ import annotations

import io

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from qspace_nd.registration.picture import OUTLINE, picture, picture_png
from qspace_nd.registration.places import Registration


def outlines(png: bytes) -> int:
    """How many pixels have the outlines' hue."""
    pixels = imread(io.BytesIO(png))[..., :3]
    wanted = np.array(to_rgb(OUTLINE))
    return int((np.abs(pixels - wanted).max(axis=-1) < 0.15).sum())


def test_nine_slices_with_outlines_and_a_title(heads, template, upright):
    figure = picture(heads[3].images, template, upright, "sub-4")
    assert len(figure.axes) == 9
    assert "sub-4" in figure.get_suptitle()
    assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == [
        "sagittal",
        "coronal",
        "axial",
    ]
    png = picture_png(heads[3].images, template, upright, "sub-4")
    assert outlines(png) > 500
    assert len(png) < 300_000
    assert png == picture_png(heads[3].images, template, upright, "sub-4")


def test_a_scan_that_lies_beside_the_template_has_no_outlines(heads, template):
    away = np.eye(4)
    away[0, 3] = 1000.0
    png = picture_png(heads[3].images, template, Registration(away, None), "sub-4")
    assert outlines(png) == 0


def test_the_outlines_lie_where_the_registration_says(heads, template, upright):
    """The right of the head is drawn on the left: so is what is moved to the right."""
    shift = np.eye(4)
    shift[0, 3] = -9.0  # the template's places 9 mm further to the left: outlines to the right
    moved = Registration(shift @ upright.affine, None)
    figures = [
        picture(heads[3].images, template, one, "sub-4")
        for one in (Registration(upright.affine, None), moved)
    ]
    middles = []
    for figure in figures:
        panel = figure.axes[7]  # axial
        vertices = np.concatenate([path.vertices for path in panel.collections[0].get_paths()])
        middles.append(vertices[:, 0].mean())
    # In world x the outlines move by +9 mm, three nodes, which is to the left of the picture.
    assert -4.5 < middles[1] - middles[0] < -1.5
