"""A novelty map as a picture: axial slices of the scan, coloured where few healthy voxels are so.

No date, path or version of a library goes into a file: the same map gives the same bytes.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qspace_nd.arrays import Bools, Float64
from qspace_nd.evaluation.axial import AxialSlices
from qspace_nd.evaluation.figures import COLOURS, NOVELTY_COLOURS
from qspace_nd.evaluation.shown import Scale, Shown
from qspace_nd.system.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

OUTLINE = COLOURS[-1]
"""The colour of lesions' outlines: a blue, which nobody takes for yellow, red or grey."""

_COLUMNS = 5  # of nine slices and the legend in two rows
_PANEL = 1.5, 1.8  # inches: the most that a slice is wide and high
_LEGEND = 1.5, 1.5  # inches: the least that a cell is, which the legend has to go in
_TITLE = 0.25  # inches
_GAP = 0.04  # inches
_DPI = 200
_STYLE: Any = {  # matplotlib's stubs want literal keys
    "font.family": ["DejaVu Sans"],
    "font.size": 6.0,
    "text.color": "white",
    "text.parse_math": False,  # a name may hold a dollar sign
    "pdf.fonttype": 42,  # text that can be edited
    "savefig.facecolor": "auto",
}
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
}
_STAMPED = {"png": "Description", "pdf": "Subject"}


def draw_mosaic(shown: Shown) -> Figure:
    """Draw nine axial slices, or as many as there are, and a legend.

    Coloured are the voxels that are more novel than `shown.share` of the healthy ones, or without
    healthy people's maps those above the map's own 98th percentile. Slices are spread over the
    brain, and go through the largest clusters and lesions (`Shown.interest`).
    """
    from matplotlib.figure import Figure

    scale = shown.scale()
    slices = AxialSlices.of(shown.affine, shown.mask, shown.interest(scale))
    with _styled():
        cells, columns = len(slices.indices) + 1, min(_COLUMNS, len(slices.indices) + 1)
        rows = math.ceil(cells / columns)
        panel = _panel(slices)
        width = columns * max(panel[0], _LEGEND[0])
        height = rows * max(panel[1], _LEGEND[1]) + _TITLE
        figure = Figure(figsize=(width, height), facecolor="black")
        figure.subplots_adjust(0, 0, 1, 1 - _TITLE / height, 0, 0)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        _draw_slices(axes, shown, slices, scale)
        for cell in axes[cells - 1 :]:
            cell.set_axis_off()
        _draw_legend(figure, axes[cells - 1], shown, slices, scale)
        figure.text(0.05 / width, 1 - 0.05 / height, _drawable(shown.title), va="top", size=8)
    return figure


def write_mosaic(path: Path, shown: Shown, stamp: str = "") -> None:
    """Write the mosaic as PNG or PDF, by the ending of `path`, with a stamp for programs.

    Raises
    ------
    WorkError
        The file could not be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    kind = path.suffix[1:]
    with _styled(), warnings.catch_warnings(), replacing(path) as temporary:
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of a name: a box stands for it
        figure = draw_mosaic(shown)
        FigureCanvasAgg(figure)
        told: dict[str, Any] = _METADATA[kind] | ({_STAMPED[kind]: stamp} if stamp else {})
        figure.savefig(temporary, format=kind, dpi=_DPI, metadata=told)


def has_stamp(path: Path, stamp: str) -> bool:
    """Whether a picture was written with a stamp that begins so; it stands in the file as it is."""
    try:
        content = path.read_bytes()
    except OSError:
        return False
    return any(mark + stamp.encode() in content for mark in (b"Description\0", b"/Subject ("))


@contextmanager
def _styled() -> Iterator[None]:
    """Draw in our style, whatever the user's own is."""
    from matplotlib import rc_context, rcdefaults

    with rc_context():
        rcdefaults()
        with rc_context(_STYLE):
            yield


def _panel(slices: AxialSlices) -> tuple[float, float]:
    """Width and height of a slice in inches."""
    scale = min(most / size for most, size in zip(_PANEL, slices.size, strict=True))
    return slices.size[0] * scale + _GAP, slices.size[1] * scale + _GAP


def _draw_slices(axes: Any, shown: Shown, slices: AxialSlices, scale: Scale) -> None:
    coloured = shown.coloured(scale.low)
    values = np.where(coloured, shown.values, np.nan)
    layers: list[Any] = [slices.planes(one) for one in (shown.ground(), values)]
    empty = np.zeros_like(coloured)
    layers.append(slices.planes(empty if shown.labels is None else shown.labels))
    colours = novelty_colours()
    for panel, height, ground, novelty, labels in zip(axes, slices.heights, *layers, strict=False):
        # Voxels as they are, in PDF too: other interpolations make a picture of dots of them.
        how: Any = {"extent": slices.extent, "interpolation": "none"}
        panel.imshow(ground, cmap="gray", vmin=0, vmax=1, **how)
        panel.imshow(
            np.ma.masked_invalid(np.clip(novelty, None, scale.high)),
            colours,
            vmin=scale.low,
            vmax=scale.high,
            **how,
        )
        _outline(panel, labels, slices)
        sides = ("R", "L") if shown.oriented else ("?", "?")
        _dress(panel, f"z = {math.floor(height + 0.5)} mm", *sides)


def novelty_colours() -> Colormap:
    """The scale of novelty without its dark end, which could not be told from the scan's grey."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps[NOVELTY_COLOURS](np.linspace(0.58, 0.92, 256)))


def _outline(panel: Axes, labels: Bools, slices: AxialSlices) -> None:
    """Draw a line between the voxels of labels and the others."""
    from matplotlib.collections import LineCollection

    lines = _edges(labels)
    lines *= np.divide(slices.size, labels.shape[::-1])
    lines[..., 1] = slices.size[1] - lines[..., 1]  # rows go downwards
    panel.add_collection(LineCollection(list(lines), colors=OUTLINE, linewidths=0.7))


def _edges(labels: Bools) -> Float64:
    """Give the sides (n, 2, 2) of pixels that part labelled ones from others: ends as (x, y)."""
    padded = np.pad(labels, 1)
    row, column = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    across = np.stack([[column, row], [column + 1, row]])
    row, column = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    down = np.stack([[column, row], [column, row + 1]])
    return np.moveaxis(np.concatenate([across, down], axis=2), 2, 0).astype(np.float64)


def _dress(panel: Axes, text: str, left: str, right: str) -> None:
    panel.set_axis_off()
    panel.set_adjustable("datalim")  # a slice that is flat leaves room for the words
    where: Any = {"transform": panel.transAxes, "size": 5.5}
    panel.text(0.02, 0.98, left, ha="left", va="top", **where)
    panel.text(0.98, 0.98, right, ha="right", va="top", **where)
    panel.text(0.02, 0.01, text, ha="left", va="bottom", **where)


def _draw_legend(
    figure: Figure, cell: Axes, shown: Shown, slices: AxialSlices, scale: Scale
) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = cell.inset_axes((0.08, 0.72, 0.78, 0.07))
    colours = ScalarMappable(Normalize(scale.low, scale.high), novelty_colours())
    drawn = figure.colorbar(colours, cax=bar, orientation="horizontal", extend="max")
    drawn.set_ticks([*scale.ticks], labels=[*scale.ticks.values()])
    drawn.outline.set_visible(False)
    bar.tick_params(colors="white", length=2, pad=2, labelsize=6)
    bar.set_xlabel(scale.label, color="white", size=6, labelpad=3)
    lines = ["Radiological view: the patient's", "right (R) is on the left."]
    if not shown.oriented:
        lines = ["The scan's header does not say", "which side is right or left."]
    if slices.tilt >= 2:
        lines += [f"Slices tilted by {slices.tilt:.0f}°;", "z is that of their middle."]
    top = 0.4
    if shown.labels is not None:
        cell.plot([0.08, 0.16], [top - 0.04] * 2, color=OUTLINE, transform=cell.transAxes, lw=1)
        cell.text(0.2, top - 0.04, "lesions, as labelled", transform=cell.transAxes, va="center")
        top -= 0.11
    cell.text(0.08, top, "\n".join(lines), transform=cell.transAxes, va="top", linespacing=1.3)


def _drawable(text: str) -> str:
    """Replace what a name may hold that is no text: half of a pair, of bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()
