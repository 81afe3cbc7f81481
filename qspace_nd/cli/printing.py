"""Tables of results in the terminal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import rich.table
import rich.text
from rich import box
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from qspace_nd.evaluation.froc import FALSE_CLUSTERS, LEAST_SHARE, Curve
from qspace_nd.evaluation.metrics import BEST, BRAIN, CALIBRATED, OWN, Result, SizeBin
from qspace_nd.evaluation.tables import (
    Cell,
    Row,
    Table,
    by_score,
    rounded,
    row_names,
    score_name,
    table,
)
from qspace_nd.imaging.connected import LEAST_VOXELS
from qspace_nd.scores.names import BASELINE_SCORE

_FOUND = "Found: lesions with a voxel above the novelty that 1 % of the healthy voxels exceed."
_PRECISION = "AP: average precision."
_OVERLAP = "Recall: the share of lesion voxels above. Precision: the share above that is lesion."
_FALSE = (
    f"Lesions and clusters of {LEAST_VOXELS} voxels or more. A cluster is a hit if "
    f"{100 * LEAST_SHARE:g} % of it lies in lesions and their rim of one voxel, else false. "
    "Counted on these scans: no healthy person's is among them."
)
_THRESHOLDS = {BEST: "best Dice", OWN: "1 % of own healthy"} | {
    name: f"{100 * share:g} % of healthy people" for name, share in CALIBRATED.items()
}
"""What thresholds are called."""


def render_table(
    results: Iterable[Result], *, width: int = 80, plain: bool = False
) -> rich.table.Table:
    """Lay results out for a terminal of `width` columns.

    One score: a row for each patient with all figures, and their mean. Several: the scores ×
    patients of `table`, and beside them what else there is room for; where the patients do not
    fit, their least and greatest AUC stand for them. What is at or above the baseline is bold, or,
    for a terminal that shows no bold type (`plain`), marked by an asterisk.

    Raises
    ------
    InputError
        As `table`.
    """
    results = list(results)
    summary = table(results)
    if len({(row.score, row.latents) for row in summary.rows}) == 1:
        return _patient_table(summary, results, width)
    return _score_table(summary, width, plain)


def _patient_table(summary: Table, results: Sequence[Result], width: int) -> rich.table.Table:
    """Draw as many of the figures as fit."""
    several_regions = len({row.region for row in summary.rows}) > 1
    names = ["Region", "Patient"] if several_regions else ["Patient"]
    figures = ["AUC", *_MORE_HEADERS, "Lesion\nvoxels", "All\nvoxels"]
    score = score_name(summary.rows[0].score, summary.rows[0].latents)

    def drawn(shown: int) -> rich.table.Table:
        title = f"{score}, {_place(summary)}"
        caption = f"{_PRECISION} {_FOUND}" if shown > 1 else ""
        table = empty_table(names, figures[:shown], title=title, caption=caption)
        for group, row in zip(by_score(results), summary.rows, strict=True):
            region = [row.region] if several_regions else []
            for one in group:
                voxels = [f"{one.lesion_voxels:,}", f"{one.voxels:,}"]
                told = [rounded(one.auc), *_more(one), *voxels]
                table.add_row(*plain_texts([*region, one.patient, *told[:shown]]))
                region = [""] if several_regions else []
            if len(group) > 1:
                told = [rounded(row.mean.auc), *_more(row)]
                table.add_row(*plain_texts([*region, "mean", *told[:shown]]), style="bold")
            table.add_section()
        return table

    return widest(map(drawn, (len(figures), len(figures) - 2, 1)), width)


def _score_table(summary: Table, width: int, plain: bool) -> rich.table.Table:
    """Draw the fullest layout that fits."""
    several = len(summary.patients) > 1
    mean = _Columns(["Mean\nAUC" if several else "AUC"], lambda row: [_marked(row.mean, plain)])
    patients = _Columns(
        list(summary.patients), lambda row: [_marked(cell, plain) for cell in row.cells]
    )
    extremes = _Columns(["Least\nAUC", "Greatest\nAUC"], lambda row: plain_texts(_extremes(row)))
    more = _Columns(_MORE_HEADERS, lambda row: plain_texts(_more(row)))
    spread: tuple[tuple[_Columns, ...], ...] = (
        ((patients, mean, more), (patients, mean), (extremes, mean, more), (extremes, mean))
        if several
        else ((mean, more),)
    )
    tables = (_filled_table(summary, layout, plain) for layout in (*spread, (mean,)))
    return widest(tables, width)


def widest(tables: Iterable[rich.table.Table], width: int) -> rich.table.Table:
    """The first of several that fits, names broken between words if need be, or else the last."""
    for drawn in tables:
        if _measured(drawn).minimum <= width:
            _give_width(drawn, width)
            break
    return drawn


def _give_width(drawn: rich.table.Table, width: int) -> None:
    """Give the last names what they want of the width, and those before what is left.

    Rich would take from the widest, and break words.
    """
    left = width - _measured(drawn).minimum
    for column in reversed(drawn.columns):
        if not column.no_wrap:
            cells = [_measured(cell) for cell in (column.header, *column.cells)]
            least = max(one.minimum for one in cells)
            more = min(left, max(one.maximum for one in cells) - least)
            column.width = least + more
            left -= more


class _Columns(NamedTuple):
    """Neighbouring columns: their headers, and their texts in a row."""

    headers: list[str]
    texts: Callable[[Row], list[rich.text.Text]]


_MORE_HEADERS = ["AP", "Best\nDice", "Lesions\nfound"]


def _more(one: Result | Row) -> list[str]:
    found = f"{one.lesions_found}/{one.lesions}"
    return [rounded(one.average_precision), rounded(one.best_dice), found]


def _extremes(row: Row) -> list[str]:
    known = [cell.auc for cell in row.cells if cell.auc is not None]
    return [rounded(min(known)), rounded(max(known))]


def _marked(cell: Cell, plain: bool) -> rich.text.Text:
    if plain:
        return Text(("*" if cell.bold else "") + rounded(cell.auc))
    return Text(rounded(cell.auc), style="bold" if cell.bold else "")


def _filled_table(summary: Table, layout: Sequence[_Columns], plain: bool) -> rich.table.Table:
    headers = [header for columns in layout for header in columns.headers]
    caption = []
    if any(row.score == BASELINE_SCORE for row in summary.rows):
        caption.append(f"{'*' if plain else 'Bold'}: at or above the baseline, {BASELINE_SCORE}.")
    if _MORE_HEADERS[-1] in headers:
        caption += [_PRECISION, _FOUND]
    named, names = row_names(summary)
    drawn = empty_table(named, headers, title=f"AUC {_place(summary)}", caption=" ".join(caption))
    for row, name, following in zip(summary.rows, names, [*summary.rows[1:], None], strict=True):
        texts = [text for columns in layout for text in columns.texts(row)]
        drawn.add_row(*plain_texts(name), *texts, end_section=_closes(row, following))
    return drawn


def _place(summary: Table) -> str:
    """Where the voxels lie that a table is of."""
    regions = {row.region for row in summary.rows}
    region = summary.rows[0].region
    if len(regions) > 1:
        return "by region"
    return "in the brain" if region == BRAIN else f"within {region}"


def _closes(row: Row, following: Row | None) -> bool:
    """Tell whether a space belongs below: after the baseline's rows and after a region's."""
    if following is None or row.region != following.region:
        return True
    return row.score == BASELINE_SCORE != following.score


def empty_table(
    names: Sequence[str], figures: Sequence[str], *, title: str, caption: str
) -> rich.table.Table:
    """A table without rows: names stand on the left and may be broken, figures on the right."""
    drawn = RichTable(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
        caption_style="",
        header_style="",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in names:
        drawn.add_column(name, overflow="fold")
    for figure in figures:
        drawn.add_column(figure, justify="right", no_wrap=True)
    return drawn


def _measured(drawn: RenderableType) -> Measurement:
    console = Console(width=10_000)
    return Measurement.get(console, console.options, drawn)


def plain_texts(texts: Iterable[str]) -> list[rich.text.Text]:
    """Take the texts as they are: a patient's name may look like markup."""
    return [Text(text) for text in texts]


def render_overlaps(results: Iterable[Result], *, width: int = 80) -> rich.table.Table:
    """Lay out for a terminal what the voxels above some thresholds have in common with the labels.

    Raises
    ------
    InputError
        As `table`.
    """
    summary = table(results)
    named, names = row_names(summary)
    mean = "; means over the patients" if len(summary.patients) > 1 else ""
    drawn = empty_table(
        [*named, "Above"],
        ["Recall", "Precision", "Dice"],
        title=f"Voxels above a threshold, {_place(summary)}{mean}",
        caption=_OVERLAP,
    )
    for row, name in zip(summary.rows, names, strict=True):
        for overlap_name, one in row.overlaps.items():
            figures = (one.recall, one.precision, one.dice) if one else (None,) * 3
            drawn.add_row(*plain_texts([*name, _THRESHOLDS[overlap_name], *map(rounded, figures)]))
            name = [""] * len(name)
        drawn.add_section()
    return widest([drawn], width)


def render_recall(results: Iterable[Result], *, width: int = 80) -> rich.table.Table:
    """Lay out for a terminal how many lesions of each size were found, over all patients.

    Sizes that no lesion has are left out; where those that are left do not fit, only large lesions
    and all are told.

    Raises
    ------
    InputError
        As `table`.
    """
    summary = table(results)
    named, names = row_names(summary)
    bins = list(zip(*(row.recall_by_size for row in summary.rows), strict=True))
    sizes = [of_all for of_all in bins if any(one.lesions for one in of_all)]
    large = f"≥{LEAST_VOXELS}\nvoxels"

    def drawn(shown: Sequence[tuple[SizeBin, ...]]) -> rich.table.Table:
        title = f"Lesions found {_place(summary)}" + ", by volume in mm³" * bool(shown)
        headers = [*(_size(of_all[0]) for of_all in shown), large, "All"]
        table = empty_table(named, headers, title=title, caption=_FOUND)
        for at, (row, name) in enumerate(zip(summary.rows, names, strict=True)):
            counts = [(of_all[at].found, of_all[at].lesions) for of_all in shown]
            counts += [(row.large_lesions_found, row.large_lesions)]
            counts += [(row.lesions_found, row.lesions)]
            table.add_row(*plain_texts([*name, *(_share(*count) for count in counts)]))
        return table

    return widest(map(drawn, (sizes, [])), width)


def render_froc(results: Iterable[Result], *, width: int = 80) -> rich.table.Table:
    """Lay out for a terminal how many lesions are found at few false clusters a scan.

    Raises
    ------
    InputError
        As `table`.
    """
    summary = table(results)
    named, names = row_names(summary)
    drawn = empty_table(
        named,
        list(map(str, FALSE_CLUSTERS)),
        title=f"Lesions found {_place(summary)}, by false clusters a scan",
        caption=_FALSE,
    )
    for row, name in zip(summary.rows, names, strict=True):
        drawn.add_row(*plain_texts([*name, *_found_at(row.froc)]))
    return widest([drawn], width)


def _found_at(curve: Curve | None) -> list[str]:
    if curve is None:
        return ["–"] * len(FALSE_CLUSTERS)
    lesions = int(curve.lesions.sum())
    return [_share(int(curve.hits_at(number).sum()), lesions) for number in FALSE_CLUSTERS]


def _share(found: int, lesions: int) -> str:
    return f"{found}/{lesions}" if lesions else "–"


def _size(one: SizeBin) -> str:
    if one.minimum == 0:
        return f"<{one.maximum:g}"
    if math.isinf(one.maximum):
        return f"≥{one.minimum:g}"
    return f"{one.minimum:g}–\n{one.maximum:g}"
