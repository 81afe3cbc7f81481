"""Figures of an evaluation, as PNG: ROC curves, histograms, and slices beside the labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Bools, Float64
from qspace_nd.errors import ArrayError, InputError
from qspace_nd.evaluation.metrics import Case, Result
from qspace_nd.scores.names import BASELINE_SCORE
from qspace_nd.system.writing import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which stay apart for the colour-blind.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LESION, HEALTHY, BASELINE_COLOUR = "#D55E00", "#0072B2", "#000000"
NOVELTY_COLOURS = "inferno"

_STYLE: Any = {  # matplotlib's stubs want literal keys
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "savefig.dpi": 200,
    "text.parse_math": False,  # a name may hold a dollar sign
}


@contextmanager
def _drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Give a figure of `width` × `height` inches that is written to `path` when the block ends."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png")


def _by_name(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Group by score, naming the latents and the region only where there are several."""
    results = list(results)
    if not results:
        raise InputError("There is no result to draw; evaluate at least one map.")
    several_latents = len({one.latents for one in results if one.score != BASELINE_SCORE}) > 1
    several_regions = len({one.region for one in results}) > 1
    groups: dict[str, list[Result]] = {}
    for one in results:
        name = one.score
        if several_latents and one.latents is not None:
            name += f", {one.latents} latents"
        if several_regions:
            name += f", {one.region}"
        groups.setdefault(name, []).append(one)
    return groups


def _mean_auc(group: Iterable[Result]) -> float:
    return fmean(one.auc for one in group)


# -------------------------------------------------------------------------------------- the ROC


def roc_plot(path: Path, results: Iterable[Result]) -> None:
    """Draw the ROC curves: a colour for each score, bold the mean over patients, thin each patient.

    The mean is of the true positive rates at each false positive rate, so that its area is the
    mean AUC. Where there are more scores than colours, the baseline and the best are coloured and
    the others grey.

    Raises
    ------
    InputError
        There is no result.
    """
    groups = _by_name(results)
    ranked = sorted(groups, key=lambda name: _mean_auc(groups[name]), reverse=True)
    styles = _curve_styles(ranked, groups)
    others = [name for name in ranked if name not in styles]
    several = any(len(group) > 1 for group in groups.values())

    with _drawing(path, 5.0, 5.0) as figure:
        axes = figure.add_subplot()
        for rank, (name, style) in enumerate(styles.items()):
            group = groups[name]
            note = " (baseline)" if group[0].score == BASELINE_SCORE else ""
            _draw_curves(axes, group, f"{name}{note}  {_mean_auc(group):.3f}", style, -rank)
        for at, name in enumerate(others):
            label = f"{len(others)} others, up to {_mean_auc(groups[name]):.3f}" if at == 0 else ""
            rates = _mean_curve(groups[name])
            axes.plot(*rates, label=label, color="0.8", linewidth=0.8, zorder=-100)
        axes.plot([0, 1], [0, 1], color="0.5", linewidth=0.8, linestyle=":", label="chance  0.500")
        axes.set(
            xlim=(-0.005, 1.005),
            ylim=(-0.005, 1.005),
            aspect="equal",
            xlabel="False positive rate (healthy voxels)",
            ylabel="True positive rate (lesion voxels)",
        )
        patients = max(len(group) for group in groups.values())
        title = f"Mean AUC of {patients} patients" if several else "AUC"
        axes.legend(title=title, loc="lower right", alignment="left", title_fontsize=8)


def _curve_styles(
    ranked: Iterable[str], groups: dict[str, list[Result]]
) -> dict[str, dict[str, Any]]:
    """Choose styles for the baseline and for as many of the best scores as there are colours."""
    colours = iter(COLOURS)
    dashes = cycle(("--", "-.", (0, (1, 1.5))))
    styles: dict[str, dict[str, Any]] = {}
    for name in ranked:
        if groups[name][0].score == BASELINE_SCORE:
            styles[name] = {"color": BASELINE_COLOUR, "linestyle": next(dashes)}
        elif colour := next(colours, None):
            styles[name] = {"color": colour}
    return styles


def _draw_curves(
    axes: Axes, group: list[Result], label: str, style: dict[str, Any], order: int
) -> None:
    axes.plot(*_mean_curve(group), label=label, linewidth=1.8, zorder=order + 50, **style)
    for one in group if len(group) > 1 else ():
        rates = one.false_positive_rate, one.true_positive_rate
        axes.plot(*rates, linewidth=0.6, alpha=0.45, zorder=order, **style)


def _mean_curve(group: list[Result]) -> tuple[Float64, Float64]:
    if len(group) == 1:
        return group[0].false_positive_rate, group[0].true_positive_rate
    at = np.unique(np.concatenate([one.false_positive_rate for one in group]))
    rates = [np.interp(at, one.false_positive_rate, one.true_positive_rate) for one in group]
    # Each curve leaves the ordinate where its first healthy voxel is; the mean starts at (0, 0).
    return np.append(0.0, at), np.append(0.0, np.mean(rates, axis=0))


# ------------------------------------------------------------------------------- the histograms

_PANEL = (2.3, 1.6)  # inches
_REACH = 5.0  # times from the healthy median to the outer tenths, some 6 standard deviations
_UNTOLD = 0.01  # the share of voxels that may lie beyond an axis unmentioned


def histograms(path: Path, results: Iterable[Result]) -> None:
    """Draw how novelty is distributed in lesion and in healthy voxels: a panel for each score.

    As the paper's Figure 2. Each class is a density over all its voxels, of all patients together,
    in the same bins. Where tails are heavy an axis ends before they do; how many voxels lie beyond
    is written in the panel where it is 1 % of a class or more.

    Raises
    ------
    InputError
        There is no result.
    """
    groups = _by_name(results)
    columns = math.ceil(math.sqrt(len(groups) / 2)) if len(groups) > 3 else len(groups)
    rows = math.ceil(len(groups) / columns)
    scale = {1: 1.75, 2: 1.4}.get(len(groups), 1.0)
    width, height = _PANEL[0] * scale * columns, _PANEL[1] * scale * rows

    with _drawing(path, width, height + 0.5) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, group) in zip(panels, groups.items(), strict=False):
            _draw_histogram(axes, name, group)
        for axes in panels[len(groups) :]:
            axes.remove()
        for row in range(rows):
            panels[row * columns].set_ylabel("Density")
        for axes in panels[max(0, len(groups) - columns) : len(groups)]:
            axes.set_xlabel("Novelty")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        figure.supxlabel(
            f"Unless noted, less than {_UNTOLD:.0%} of either class lies beyond an axis.",
            fontsize=7,
            x=0.01,
            ha="left",
        )


def _draw_histogram(axes: Axes, name: str, group: list[Result]) -> None:
    healthy = _Values.pooled((one.healthy_values, one.healthy_voxels) for one in group)
    lesion = _Values.pooled((one.lesion_values, one.lesion_voxels) for one in group)
    edges = _bin_edges(healthy, lesion)
    for values, colour, label in (
        (healthy, HEALTHY, "healthy voxels"),
        (lesion, LESION, "lesion voxels"),
    ):
        density = values.density(edges)
        axes.stairs(density, edges, fill=True, color=colour, alpha=0.3)
        axes.stairs(density, edges, color=colour, linewidth=1.2, label=label)
    axes.set_title(name, loc="left")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_yticks([])
    axes.locator_params(axis="x", nbins=4)
    axes.ticklabel_format(axis="x", scilimits=(-2, 5))
    note = f"AUC {_mean_auc(group):.3f}"
    beyond = lesion.share_outside(edges), healthy.share_outside(edges)
    if max(beyond) >= _UNTOLD:
        note += f"\nbeyond the axis:\n{beyond[0]:.1%} of lesion,\n{beyond[1]:.1%} of healthy"
    axes.text(
        0.98, 0.97, note, transform=axes.transAxes, ha="right", va="top", fontsize=7, color="0.25"
    )


@dataclass(frozen=True)
class _Values:
    """The novelty of one class of voxels, each value standing for `weights` voxels."""

    values: NDArray[np.floating[Any]]  # (m,) sorted
    weights: Float64  # (m,)
    voxels: int

    @classmethod
    def pooled(cls, samples: Iterable[tuple[NDArray[np.floating[Any]], int]]) -> _Values:
        samples = list(samples)
        values = np.concatenate([sample for sample, _ in samples])
        weights = np.concatenate([np.full(len(sample), n / len(sample)) for sample, n in samples])
        order = np.argsort(values)
        return cls(values[order], weights[order], sum(n for _, n in samples))

    def quantile(self, share: float) -> float:
        cumulative = np.cumsum(self.weights) / self.voxels
        at = min(int(np.searchsorted(cumulative, share)), len(self.values) - 1)
        return float(self.values[at])

    def density(self, edges: Float64) -> Float64:
        counts, _ = np.histogram(self.values, bins=edges, weights=self.weights)
        return np.asarray(counts / (self.voxels * np.diff(edges)))

    def share_outside(self, edges: Float64) -> float:
        outside = (self.values < edges[0]) | (self.values > edges[-1])
        return float(self.weights[outside].sum() / self.voxels)


def _bin_edges(healthy: _Values, lesion: _Values) -> Float64:
    """Span both classes, but not far beyond the bulk of the healthy voxels; bins by Rice's rule."""
    lower = min(healthy.quantile(0.0005), lesion.quantile(0.0))
    upper = max(healthy.quantile(0.9995), lesion.quantile(0.995))
    tenth, middle, ninetieth = map(healthy.quantile, (0.1, 0.5, 0.9))
    if tenth < middle < ninetieth:
        lower = max(lower, middle - _REACH * (middle - tenth))
        upper = min(upper, middle + _REACH * (ninetieth - middle))
    if upper == lower:  # a constant map
        lower, upper = lower - 0.5, upper + 0.5
    bins = round(2 * min(healthy.voxels, lesion.voxels) ** (1 / 3))
    return np.linspace(lower, upper, min(max(bins, 20), 60) + 1)


# ----------------------------------------------------------------------------------- the slices

_PANEL_HEIGHT = 2.7  # inches
_MARGIN = 4.0  # mm around the mask


def slices(
    path: Path,
    case: Case,
    affine: NDArray[np.floating[Any]],
    background: NDArray[np.floating[Any]] | None = None,
    *,
    background_name: str = "b = 0",
) -> None:
    """Draw, side by side, the scan, the expert's label over it, and the novelty map.

    One axial slice, the one with the most lesion voxels within the mask, in radiological
    convention. The arrays may be stored in any orientation: their axes are put in the order and
    sense of the closest world axes, and voxels are drawn in their size.

    Parameters
    ----------
    path : Path
        The PNG to write.
    case : Case
        The map (X, Y, Z), its labels and its mask.
    affine : (4, 4) array
        From voxel indices to world coordinates in mm (RAS+), as of NIfTI.
    background : (X, Y, Z) array, optional
        The scan; without it, the label is drawn over the mask, in two panels.
    background_name : str
        What `background` shows, for its title.

    Raises
    ------
    ArrayError
        The affine is not 4 × 4 and invertible, or the background is of another shape.
    """
    if background is not None and background.shape != case.novelty.shape:
        raise ArrayError(
            f"The background of {case.patient} has shape {background.shape} and its map "
            f"{case.novelty.shape}; give both on one grid."
        )
    view = _AxialView.of(case, affine)
    mask, labels = view.plane(case.mask), view.plane(case.labels)
    scan = 0.4 * mask if background is None else view.plane(background)
    panels = 2 if background is None else 3

    columns, rows = view.size
    panel_width = _PANEL_HEIGHT * columns / rows
    with _drawing(path, panels * panel_width + 0.9, _PANEL_HEIGHT + 0.75) as figure:
        axes = list(figure.subplots(1, panels, squeeze=False)[0])
        *over_scan, on_map = axes
        grey = {"cmap": "gray", "extent": view.extent, **_grey_window(background, case.mask)}
        for one in over_scan:
            one.imshow(scan, **grey)
        over_scan[0].set_title(background_name)
        over_scan[-1].imshow(_overlay(labels, LESION), extent=view.extent)
        over_scan[-1].set_title("expert label")
        novelty = np.where(mask, view.plane(case.novelty), np.nan)
        shown = on_map.imshow(
            novelty, cmap=NOVELTY_COLOURS, extent=view.extent, **_novelty_window(case)
        )
        on_map.set_title(case.score)
        bar = figure.colorbar(shown, ax=on_map, extend="both", fraction=0.05, pad=0.02, aspect=25)
        bar.set_label("novelty")
        bar.outline.set_visible(False)
        for one in axes:
            _dress(one)
        figure.suptitle(case.patient, fontsize=10, x=0.01, ha="left")
        figure.supxlabel(
            f"Axial slice at z = {view.height:.0f} mm. Radiological convention: the patient's "
            "right (R) is on the left.\nColour window: 1st to 99.5th percentile of the healthy "
            "voxels.",
            fontsize=7,
            x=0.01,
            ha="left",
        )


@dataclass(frozen=True)
class _AxialView:
    """One axial slice, cropped to the mask, as an image: rows downwards from the front."""

    axes: tuple[int, int, int]  # the array axis closest to world x, y, z
    flipped: tuple[int, ...]  # the axes, after that permutation, that run against the world's
    index: int  # the slice, in the reoriented array
    crop: tuple[slice, slice]  # in reoriented x and y
    extent: tuple[float, float, float, float]  # mm, as imshow takes it
    height: float  # world z of the slice's centre, mm

    @classmethod
    def of(cls, case: Case, affine: NDArray[np.floating[Any]]) -> _AxialView:
        axes, flipped = _closest_axes(affine)
        sizes = np.linalg.norm(affine[:3, :3], axis=0)[list(axes)]  # mm
        mask = np.flip(case.mask.transpose(axes), flipped)
        lesion = np.flip((case.labels & case.mask).transpose(axes), flipped)
        index = int(lesion.sum(axis=(0, 1)).argmax())
        crop = (
            _bounds(mask.any(axis=(1, 2)), sizes[0]),
            _bounds(mask.any(axis=(0, 2)), sizes[1]),
        )
        plane = mask[:, :, index][crop].shape  # a margin stops at the border of the image
        extent = (0.0, float(plane[0] * sizes[0]), 0.0, float(plane[1] * sizes[1]))
        centre = [(length - 1) / 2 for length in case.mask.shape]
        centre[axes[2]] = mask.shape[2] - 1 - index if 2 in flipped else index
        height = float(affine[2, :3] @ centre + affine[2, 3])
        return cls(axes, flipped, index, crop, extent, height)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in mm."""
        return self.extent[1], self.extent[3]

    def plane(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the slice of `array` (X, Y, Z) as (rows, columns), x and y falling."""
        plane = np.flip(array.transpose(self.axes), self.flipped)[:, :, self.index]
        return plane[self.crop].T[::-1, ::-1]


def _closest_axes(
    affine: NDArray[np.floating[Any]],
) -> tuple[tuple[int, int, int], tuple[int, ...]]:
    """Return the array axis closest to each world axis, and which of them run against it."""
    from scipy.optimize import linear_sum_assignment

    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine):
        raise ArrayError(
            f"The affine is {np.array2string(affine, precision=3, separator=', ')}; give an "
            "invertible 4 × 4 matrix from voxels to mm."
        )
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    _, axes = linear_sum_assignment(-np.abs(cosines))
    x, y, z = (int(axis) for axis in axes)
    flipped = tuple(world for world, axis in enumerate((x, y, z)) if cosines[world, axis] < 0)
    return (x, y, z), flipped


def _bounds(occupied: Any, size: float) -> slice:
    margin = math.ceil(_MARGIN / size)
    inside = np.flatnonzero(occupied)
    return slice(max(0, int(inside[0]) - margin), int(inside[-1]) + 1 + margin)


def _grey_window(background: NDArray[np.floating[Any]] | None, mask: Bools) -> dict[str, float]:
    if background is None:
        return {"vmin": 0.0, "vmax": 1.0}
    inside = background[mask]
    inside = inside[np.isfinite(inside)]
    top = float(np.percentile(inside, 99.5)) if inside.size else 1.0
    return {"vmin": 0.0, "vmax": top if top > 0 else 1.0}


def _novelty_window(case: Case) -> dict[str, float]:
    low, high = np.percentile(case.novelty[case.mask & ~case.labels], [1, 99.5])
    return {"vmin": float(low), "vmax": float(high if high > low else low + 1)}


def _overlay(labels: Bools, colour: str) -> Float64:
    from matplotlib.colors import to_rgba

    return np.where(labels[..., None], to_rgba(colour, 0.75), 0.0)


def _dress(axes: Axes) -> None:
    """Make a panel black around the image, without ticks, with the patient's sides marked."""
    axes.set_facecolor("black")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    corners: tuple[tuple[float, str, Literal["left", "right"]], ...]
    corners = ((0.03, "R", "left"), (0.97, "L", "right"))
    for x, letter, align in corners:
        axes.text(x, 0.97, letter, transform=axes.transAxes, color="white", ha=align, va="top")
