"""Curves of the scores over all thresholds, as PNG: ROC, precision and recall, FROC.

A score has the same colour in all of them: the baseline is black, and the best by AUC have colours,
as many as there are; the others are grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path
from statistics import fmean
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from qspace_nd.arrays import Float64
from qspace_nd.evaluation.figures import BASELINE_COLOUR, COLOURS, by_name, drawing, mean_auc
from qspace_nd.evaluation.froc import FALSE_CLUSTERS
from qspace_nd.evaluation.metrics import Result
from qspace_nd.evaluation.tables import joined
from qspace_nd.imaging.connected import LEAST_VOXELS
from qspace_nd.scores.names import BASELINE_SCORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 0.05  # the false positive rates that matter: beyond, healthy voxels outnumber lesions
_MOST_FALSE = 10  # clusters a scan, in the mean, that a reader would look at

_LEGEND_LINE = 0.16  # inches
_WIDEST = 60  # letters in a line of the legend
_CHANCE: Any = {"color": "0.5", "linewidth": 0.8, "linestyle": ":"}

Line = tuple[Float64, Float64]


def roc_plot(path: Path, results: Iterable[Result]) -> None:
    """Draw the ROC curves, whole and where few healthy voxels are above the threshold.

    Bold is the mean over patients, thin each patient. The mean is of the true positive rates at
    each false positive rate, so that its area is the mean AUC.

    Raises
    ------
    InputError
        There is no result.
    """
    groups = by_name(results)
    with drawing(path, 9.0, 4.3) as figure:
        whole, part = figure.subplots(1, 2)
        for axes in (whole, part):
            _draw_scores(axes, groups, _mean_roc, lambda group: f"{mean_auc(group):.3f}", _roc)
            axes.plot([0, 1], [0, 1], label="chance  0.500", **_CHANCE)
            axes.set(
                ylim=(-0.005, 1.005),
                xlabel="False positive rate (share of healthy voxels)",
                ylabel="True positive rate (share of lesion voxels)",
            )
        whole.set(xlim=(-0.005, 1.005))
        part.set(xlim=(0, _FEW), title=f"The same, up to {100 * _FEW:g} % of the healthy voxels")
        _legend(figure, whole, _title(groups, "AUC"))


def precision_plot(path: Path, results: Iterable[Result]) -> None:
    """Draw precision against recall: bold the mean over patients, thin each patient.

    Raises
    ------
    InputError
        There is no result.
    """
    groups = by_name(results)
    with drawing(path, 5.0, 4.6) as figure:
        axes = figure.add_subplot()
        _draw_scores(axes, groups, _mean_precision, _mean_average_precision, _precision)
        firsts = {group[0].region: group for group in reversed(groups.values())}
        for region, group in reversed(firsts.items()):
            chance = fmean(one.lesion_voxels / one.voxels for one in group)
            where = f", {region}" if len(firsts) > 1 else ""
            axes.axhline(chance, label=f"chance{where}  {chance:.3f}", **_CHANCE)
        axes.set(
            xlim=(-0.005, 1.005),
            ylim=(-0.005, 1.005),
            xlabel="Recall (share of lesion voxels that are above the threshold)",
            ylabel="Precision (share of voxels above it that are lesion)",
        )
        _legend(figure, axes, _title(groups, "average precision"))


def froc_plot(path: Path, results: Iterable[Result]) -> None:
    """Draw lesions found against false clusters a scan, over all patients together.

    Raises
    ------
    InputError
        There is no result.
    """
    groups = by_name(results)
    with drawing(path, 5.0, 4.6) as figure:
        axes = figure.add_subplot()
        for number in FALSE_CLUSTERS:
            axes.axvline(number, color="0.85", linewidth=0.8, zorder=-200)
        _draw_scores(axes, groups, _steps, _found_at, drawstyle="steps-post")
        axes.set(
            xlim=(0, _MOST_FALSE),
            ylim=(-0.005, 1.005),
            xticks=[0, *FALSE_CLUSTERS, _MOST_FALSE],
            xlabel=f"False clusters of {LEAST_VOXELS} voxels or more (mean number a scan)",
            ylabel=f"Lesions of {LEAST_VOXELS} voxels or more that are found (share)",
        )
        numbers = ", ".join(map(str, FALSE_CLUSTERS))
        _legend(figure, axes, f"Share found at {numbers} false clusters")


# --- What all of them share


def _draw_scores(
    axes: Axes,
    groups: dict[str, list[Result]],
    over_all: Callable[[list[Result]], Line],
    figure: Callable[[list[Result]], str],
    of_one: Callable[[Result], Line] | None = None,
    **how: Any,
) -> None:
    """Draw the line of each score, its figure in the label, and the lines of each patient."""
    ranked = sorted(groups, key=lambda name: mean_auc(groups[name]), reverse=True)
    styles = _styles(ranked, groups)
    for rank, (name, style) in enumerate(styles.items()):
        group = groups[name]
        note = " (baseline)" if group[0].score == BASELINE_SCORE else ""
        label = f"{name}{note}  {figure(group)}"
        axes.plot(*over_all(group), label=label, linewidth=1.8, zorder=50 - rank, **style, **how)
        each = () if of_one is None or len(group) == 1 else map(of_one, group)
        for line in each:
            axes.plot(*line, linewidth=0.6, alpha=0.45, zorder=-rank, **style)
    others = [name for name in ranked if name not in styles]
    for at, name in enumerate(others):
        label = f"{len(others)} others" if at == 0 else ""
        line = over_all(groups[name])
        axes.plot(*line, label=label, color="0.8", linewidth=0.8, zorder=-100, **how)


def _styles(ranked: Iterable[str], groups: dict[str, list[Result]]) -> dict[str, dict[str, Any]]:
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


def _legend(figure: Figure, axes: Axes, title: str) -> None:
    """Say below what the lines are; there the figure gets higher by it, and no line is covered."""
    handles, labels = axes.get_legend_handles_labels()
    labels = [fill(label, _WIDEST, break_long_words=False) for label in labels]
    figure.legend(
        handles,
        labels,
        title=title,
        loc="outside lower center",
        alignment="left",
        title_fontsize=8,
    )
    lines = 1 + sum(label.count("\n") + 1 for label in labels)
    figure.set_figheight(figure.get_figheight() + _LEGEND_LINE * lines)


def _title(groups: dict[str, list[Result]], what: str) -> str:
    patients = max(map(len, groups.values()))
    return f"Mean {what} of {patients} patients" if patients > 1 else what[0].upper() + what[1:]


# --- One kind each


def _roc(one: Result) -> Line:
    return one.false_positive_rate, one.true_positive_rate


def _mean_roc(group: list[Result]) -> Line:
    if len(group) == 1:
        return _roc(group[0])
    at = np.unique(np.concatenate([one.false_positive_rate for one in group]))
    rates = [np.interp(at, *_roc(one)) for one in group]
    # Each curve leaves the ordinate where its first healthy voxel is; the mean starts at (0, 0).
    return np.append(0.0, at), np.append(0.0, np.mean(rates, axis=0))


def _precision(one: Result) -> Line:
    """Recall, rising, and the precision there."""
    recall, first = np.unique(one.true_positive_rate, return_index=True)
    true = recall * one.lesion_voxels
    false = one.false_positive_rate[first] * one.healthy_voxels
    some = true > 0
    return recall[some], true[some] / (true[some] + false[some])


def _mean_precision(group: list[Result]) -> Line:
    lines = [_precision(one) for one in group]
    at = np.unique(np.concatenate([recall for recall, _ in lines]))
    return at, np.mean([np.interp(at, *line) for line in lines], axis=0)


def _mean_average_precision(group: list[Result]) -> str:
    return f"{fmean(one.average_precision for one in group):.3f}"


def _steps(group: list[Result]) -> Line:
    curve = joined(group)
    return (np.zeros(0), np.zeros(0)) if curve is None else curve.steps()


def _found_at(group: list[Result]) -> str:
    curve = joined(group)
    if curve is None:
        return "unknown"
    return ", ".join(f"{curve.at(number):.2f}" for number in FALSE_CLUSTERS)
