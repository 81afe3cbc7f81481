"""The results of accuracy.py as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from accuracy_tables import OURS, SUPERVISED, headlines, volume
from summary import FIGURES, HEALTHY_ABOVE, Results, interval, lesions_found

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(results: Results, path: Path, fwhm: float) -> None:
    """Draw AUC by method, in the brain and in white matter, by kind, and lesions found."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 8), width_ratios=(1.2, 1.2, 1.1))
    names = headlines(results, fwhm)
    values = {name: interval(results.detection(name)) for name in names}
    names.sort(key=lambda name: values[name][0].mean)
    for axis, column in zip(axes, (0, 2), strict=False):
        for at, name in enumerate(names):
            one = values[name][column]
            axis.plot([one.low, one.high], [at, at], color=_colour(name), linewidth=2)
            axis.plot(one.mean, at, "o", color=_colour(name))
        axis.set_yticks(range(len(names)), names if column == 0 else [""] * len(names))
        axis.axvline(0.5, color="0.8", linewidth=1)
        axis.set_xlabel(FIGURES[column])
        axis.grid(axis="x", color="0.92")
    _draw_found(results, axes[2], fwhm)
    figure.suptitle("Simulated lesions found, mean and 95 % interval over patients")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _colour(name: str) -> str:
    if name.startswith(OURS):
        return "tab:red"
    if name.startswith(SUPERVISED):
        return "tab:green"
    return "tab:blue" if name.startswith("input-distance") else "0.45"


def _draw_found(results: Results, axis: Axes, fwhm: float) -> None:
    for name, style in (
        (OURS, "o-"),
        (f"{OURS}, smoothed {fwhm:g} mm", "o--"),
        ("input-distance", "s-"),
        (SUPERVISED, "^-"),
        ("registered z-map of MD", "d-"),
    ):
        controls = results.of(name, "healthy")
        if not controls:
            continue
        bins = [one for one in lesions_found(results.of(name), controls) if one.lesions]
        shares = [one.by_controls / one.lesions for one in bins]
        axis.plot(range(len(bins)), shares, style, label=name, color=_line_colour(name))
        axis.set_xticks(range(len(bins)), [volume(one) for one in bins], rotation=30, ha="right")
    axis.set_ylim(0, 1.3)  # room for the legend
    axis.set_yticks(np.linspace(0, 1, 6))
    axis.set_ylabel(f"share of lesions found, above {1 - HEALTHY_ABOVE:.0%} of left-out controls")
    axis.grid(axis="y", color="0.92")
    axis.legend(fontsize=9, loc="upper left")


def _line_colour(name: str) -> str:
    return _colour(name) if "z-map" not in name else "0.45"
