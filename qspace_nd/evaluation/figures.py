"""What all figures share: colours, the style, how they are written, and how results are grouped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from qspace_nd.errors import InputError
from qspace_nd.evaluation.metrics import Result
from qspace_nd.scores.names import BASELINE_SCORE
from qspace_nd.system.writing import replacing

if TYPE_CHECKING:
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
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
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


def by_name(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Group by score, naming the latents and the region only where there are several.

    Raises
    ------
    InputError
        There is no result.
    """
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


def mean_auc(group: Iterable[Result]) -> float:
    """Return the mean AUC over patients."""
    return fmean(one.auc for one in group)
