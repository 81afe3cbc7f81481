"""How novelty is distributed in lesion and in healthy voxels, as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float64
from qspace_nd.evaluation.figures import HEALTHY, LESION, by_name, drawing, mean_auc
from qspace_nd.evaluation.metrics import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    groups = by_name(results)
    columns = math.ceil(math.sqrt(len(groups) / 2)) if len(groups) > 3 else len(groups)
    rows = math.ceil(len(groups) / columns)
    scale = {1: 1.75, 2: 1.4}.get(len(groups), 1.0)
    width, height = _PANEL[0] * scale * columns, _PANEL[1] * scale * rows

    with drawing(path, width, height + 0.5) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, (name, group) in zip(panels, groups.items(), strict=False):
            _draw_histogram(axes, name, group)
        for axes in panels[len(groups) :]:
            axes.remove()
        for row in range(rows):
            panels[row * columns].set_ylabel("Density")
        for axes in panels[max(0, len(groups) - columns) : len(groups)]:
            axes.set_xlabel("Novelty (no unit)")
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
    note = f"AUC {mean_auc(group):.3f}"
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
