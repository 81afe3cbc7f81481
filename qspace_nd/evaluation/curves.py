"""ROC curves of the scores, as PNG."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qspace_nd.arrays import Float64
from qspace_nd.evaluation.figures import BASELINE_COLOUR, COLOURS, by_name, drawing, mean_auc
from qspace_nd.evaluation.metrics import Result
from qspace_nd.scores.names import BASELINE_SCORE

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    groups = by_name(results)
    ranked = sorted(groups, key=lambda name: mean_auc(groups[name]), reverse=True)
    styles = _curve_styles(ranked, groups)
    others = [name for name in ranked if name not in styles]
    several = any(len(group) > 1 for group in groups.values())

    with drawing(path, 5.0, 5.0) as figure:
        axes = figure.add_subplot()
        for rank, (name, style) in enumerate(styles.items()):
            group = groups[name]
            note = " (baseline)" if group[0].score == BASELINE_SCORE else ""
            _draw_curves(axes, group, f"{name}{note}  {mean_auc(group):.3f}", style, -rank)
        for at, name in enumerate(others):
            label = f"{len(others)} others, up to {mean_auc(groups[name]):.3f}" if at == 0 else ""
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
