"""Results laid out as scores × patients, and as files: JSON, TSV, Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import compress, groupby
from statistics import fmean
from typing import Any

from qspace_nd.errors import InputError
from qspace_nd.evaluation.froc import FALSE_CLUSTERS, LEAST_SHARE, Curve
from qspace_nd.evaluation.metrics import BEST, CALIBRATED, OWN, Overlap, Result, SizeBin
from qspace_nd.imaging.connected import LEAST_VOXELS
from qspace_nd.scores.names import BASELINE_SCORE

DIGITS = 3


@dataclass(frozen=True)
class Cell:
    """One AUC of a `Table`; None where the row has no map of that patient.

    `bold` where it is at or above the baseline's, both rounded as they are shown.
    """

    auc: float | None
    bold: bool


@dataclass(frozen=True)
class Row:
    """One score of one model: its AUC by patient, and figures over all its patients.

    `mean`, `average_precision`, `best_dice` and `overlaps` are means over the patients, None where
    the row lacks a patient that others have, for it would be compared with means over others;
    `lesions`, `lesions_found`, the same of large ones and `recall_by_size` are sums over the
    patients that it has. `overlaps` has no entry where no patient has one; `froc` is of all
    patients, None where it is not known.
    """

    score: str
    latents: int | None
    region: str
    cells: tuple[Cell, ...]
    mean: Cell
    average_precision: float | None
    best_dice: float | None
    lesions: int
    lesions_found: int
    large_lesions: int
    large_lesions_found: int
    recall_by_size: tuple[SizeBin, ...]
    overlaps: dict[str, Overlap | None]
    froc: Curve | None


@dataclass(frozen=True)
class Table:
    """AUC of scores × patients: the paper's Table 1, the baseline first in each region."""

    patients: tuple[str, ...]
    rows: tuple[Row, ...]


def table(results: Iterable[Result]) -> Table:
    """Lay results out as scores × patients.

    Scores, patients and regions keep the order in which they first occur, but the baseline comes
    first; the models of one score are ordered by their latents.

    Raises
    ------
    InputError
        There is no result, or two of one patient, score, number of latents and region.
    """
    results = list(results)
    if not results:
        raise InputError("There is no result to tabulate; evaluate at least one map.")
    require_distinct(results)
    patients = tuple(dict.fromkeys(one.patient for one in results))
    baseline: dict[tuple[str, int | None], list[float | None]] = {}
    rows = []
    for group in by_score(results):
        by_patient = {one.patient: one for one in group}
        listed = [by_patient.get(patient) for patient in patients]
        aucs = [one.auc if one else None for one in listed]
        aucs.append(_mean(one.auc if one else None for one in listed))
        first = group[0]
        if first.score == BASELINE_SCORE:
            baseline[first.region, first.latents] = aucs
            baseline.setdefault((first.region, None), aucs)  # for models without one of their own
        against = baseline.get((first.region, first.latents))
        against = against or baseline.get((first.region, None), [None] * len(aucs))
        *cells, mean = map(_cell, aucs, against)
        rows.append(
            Row(
                score=first.score,
                latents=first.latents,
                region=first.region,
                cells=tuple(cells),
                mean=mean,
                average_precision=_mean(one.average_precision if one else None for one in listed),
                best_dice=_mean(one.best_dice if one else None for one in listed),
                lesions=sum(one.lesions for one in group),
                lesions_found=sum(one.lesions_found for one in group),
                large_lesions=sum(one.large_lesions for one in group),
                large_lesions_found=sum(one.large_lesions_found for one in group),
                recall_by_size=_pooled(one.recall_by_size for one in group),
                overlaps=_mean_overlaps(listed),
                froc=joined(group),
            )
        )
    return Table(patients, tuple(rows))


def require_distinct(results: Sequence[Result]) -> None:
    """Check that no two results are of one patient, score, number of latents and region.

    Raises
    ------
    InputError
        Two are.
    """
    seen = set()
    for one in results:
        if one.key in seen:
            raise InputError(
                f"Two {score_name(one.score, one.latents)} maps are of the same patient, "
                f"{one.patient}; give one map a score for each patient, or name the patients apart."
            )
        seen.add(one.key)


def by_score(results: Sequence[Result]) -> list[list[Result]]:
    """Group by region, score and latents, in the order of the table."""
    regions = list(dict.fromkeys(one.region for one in results))
    scores = list(dict.fromkeys([BASELINE_SCORE, *(one.score for one in results)]))

    def place(one: Result) -> tuple[int, int, int]:
        latents = -1 if one.latents is None else one.latents
        return regions.index(one.region), scores.index(one.score), latents

    return [list(group) for _, group in groupby(sorted(results, key=place), key=place)]


def _mean(values: Iterable[float | None]) -> float | None:
    known = []
    for value in values:
        if value is None:
            return None
        known.append(value)
    return fmean(known)


def _mean_overlaps(results: Sequence[Result | None]) -> dict[str, Overlap | None]:
    """The mean at each threshold that one of the results knows."""
    means: dict[str, Overlap | None] = {}
    for name in (BEST, OWN, *CALIBRATED):
        known = [one.overlaps[name] for one in results if one and name in one.overlaps]
        if known:
            figures = [fmean(values) for values in zip(*map(astuple, known), strict=True)]
            means[name] = Overlap(*figures) if len(known) == len(results) else None
    return means


def joined(group: Sequence[Result]) -> Curve | None:
    """The curve of the scans of results together; None where one is not known."""
    curves = [one.froc for one in group]
    known = [one for one in curves if one is not None]
    return Curve.joined(known) if len(known) == len(curves) else None


def _cell(auc: float | None, baseline: float | None) -> Cell:
    if auc is None or baseline is None:
        return Cell(auc, bold=False)
    return Cell(auc, bold=round(auc, DIGITS) >= round(baseline, DIGITS))


def _pooled(counts: Iterable[tuple[SizeBin, ...]]) -> tuple[SizeBin, ...]:
    return tuple(
        SizeBin(
            same[0].minimum,
            same[0].maximum,
            lesions=sum(one.lesions for one in same),
            found=sum(one.found for one in same),
        )
        for same in zip(*counts, strict=True)
    )


def score_name(score: str, latents: int | None) -> str:
    """Name a score of a model in a heading."""
    return score if latents is None else f"{score} ({latents} latents)"


def row_names(summary: Table) -> tuple[list[str], list[list[str]]]:
    """Return the headers and the texts that name the rows; a sole region goes without saying."""
    headers = ["Region", "Score", "Latents"]
    names = [[row.region, row.score, _latents(row.latents)] for row in summary.rows]
    kept = [
        len({row.region for row in summary.rows}) > 1,
        True,
        any(row.latents is not None for row in summary.rows),
    ]
    return list(compress(headers, kept)), [list(compress(name, kept)) for name in names]


def rounded(value: float | None) -> str:
    """Write a figure as tables show it; a dash where it is unknown."""
    return "–" if value is None else f"{value:.{DIGITS}f}"


def _latents(latents: int | None) -> str:
    return "–" if latents is None else str(latents)


_FIGURES = (
    "voxels",
    "lesion_voxels",
    "lesion_voxels_outside_mask",
    "auc",
    "average_precision",
    "best_dice",
    "dice_threshold",
    "threshold_1pct",
    "lesions",
    "lesions_found",
    "large_lesions",
    "large_lesions_found",
)
_OVERLAP = ("recall", "precision", "dice")

_DEFINITIONS = {
    "auc": "area under the ROC curve of lesion against healthy voxels, ties counting one half",
    "average_precision": "sum over thresholds of precision times step in recall",
    "best_dice": "highest Dice overlap of {novelty >= dice_threshold} with the labels",
    "threshold_1pct": "least novelty of a healthy voxel that at most 1 % of them exceed",
    "lesions": "connected lesions (26 neighbours) with a voxel within the mask",
    "lesions_found": "lesions with a voxel within the mask whose novelty exceeds threshold_1pct",
    "large_lesions": f"lesions of {LEAST_VOXELS} voxels or more, within the mask and outside",
    "large_lesions_found": "large lesions among lesions_found",
    "recall_by_size": "lesions and those found by volume in mm3: minimum <= volume < maximum",
    "recall": "share of the lesion voxels that are above a threshold",
    "precision": "share of the voxels above a threshold that are lesion; 0 where there are none",
    "dice": "Dice overlap of the voxels above a threshold with the labels",
    "overlaps": (
        f"recall, precision and dice of the voxels above a threshold: {BEST}, at dice_threshold; "
        f"{OWN}, above threshold_1pct; "
        + ", ".join(
            f"{name}, where less than {100 * share:g} % of healthy people's voxels are as novel"
            for name, share in CALIBRATED.items()
        )
    ),
    "large_lesions_found_at_N_false": (
        "large lesions found at the threshold, one for all scans, at which most are found with N "
        f"false clusters a scan in the mean; a cluster of {LEAST_VOXELS} voxels or more is a hit "
        f"if {100 * LEAST_SHARE:g} % of it lies in lesions and their rim of one voxel, and finds "
        "those that it overlaps; else it is false; counted on the patients' own scans"
    ),
    "froc": "false clusters a scan, and the share of the large lesions found with at most so many",
    "means": "means over patients; of lesions, of recall_by_size and of what is found, sums",
}


def to_json(results: Iterable[Result]) -> dict[str, Any]:
    """Return all figures of each result, and their means, ready for `json.dump`.

    Raises
    ------
    InputError
        As `table`.
    """
    results = list(results)
    summary = table(results)
    return {
        "baseline": BASELINE_SCORE,
        "definitions": _DEFINITIONS,
        "means": [_row_record(row) for row in summary.rows],
        "results": [
            _result_record(one, found)
            for group in by_score(results)
            for one, found in zip(group, _found_at(group), strict=True)
        ],
    }


def _row_record(row: Row) -> dict[str, Any]:
    return {
        "score": row.score,
        "latents": row.latents,
        "region": row.region,
        "patients": sum(cell.auc is not None for cell in row.cells),
        "auc": row.mean.auc,
        "average_precision": row.average_precision,
        "best_dice": row.best_dice,
        "lesions": row.lesions,
        "lesions_found": row.lesions_found,
        "large_lesions": row.large_lesions,
        "large_lesions_found": row.large_lesions_found,
        **found_at(row.froc),
        "overlaps": {name: one and asdict(one) for name, one in row.overlaps.items()},
        "froc": _froc_record(row.froc),
        "recall_by_size": [_size_record(one) for one in row.recall_by_size],
        "at_or_above_baseline": row.mean.bold,
    }


def found_at(curve: Curve | None) -> dict[str, int]:
    """The lesions of all scans found at each number of false clusters, as files call them."""
    if curve is None:
        return {}
    return {_at(number): int(curve.hits_at(number).sum()) for number in FALSE_CLUSTERS}


def _found_at(group: Sequence[Result]) -> list[dict[str, int]]:
    """The same of each result, at the thresholds of all of them."""
    curve = joined(group)
    if curve is None:
        return [{} for _ in group]
    hits = {_at(number): curve.hits_at(number) for number in FALSE_CLUSTERS}
    return [{name: int(each[at]) for name, each in hits.items()} for at in range(len(group))]


def _at(false: int) -> str:
    return f"large_lesions_found_at_{false}_false"


def _froc_record(curve: Curve | None) -> dict[str, list[float]] | None:
    if curve is None:
        return None
    false, found = curve.steps()
    return {"false_clusters": false.round(6).tolist(), "found": found.round(6).tolist()}


def _result_record(one: Result, found: dict[str, int]) -> dict[str, Any]:
    return {
        "patient": one.patient,
        "score": one.score,
        "latents": one.latents,
        "region": one.region,
        **{name: getattr(one, name) for name in _FIGURES},
        **found,
        "overlaps": {name: asdict(overlap) for name, overlap in one.overlaps.items()},
        "recall_by_size": [_size_record(size) for size in one.recall_by_size],
        "each_lesion": [asdict(lesion) for lesion in one.each_lesion],
        "roc": {
            "false_positive_rate": one.false_positive_rate.round(6).tolist(),
            "true_positive_rate": one.true_positive_rate.round(6).tolist(),
        },
    }


def _size_record(one: SizeBin) -> dict[str, Any]:
    return {**asdict(one), "maximum": None if math.isinf(one.maximum) else one.maximum}


def to_tsv(results: Iterable[Result]) -> str:
    """Return a line for each result, with a header; `n/a` stands for what is not known, as in BIDS.

    Raises
    ------
    InputError
        As `table`.
    """
    results = list(results)
    require_distinct(results)
    lines = [
        _line(one, found)
        for group in by_score(results)
        for one, found in zip(group, _found_at(group), strict=True)
    ]
    columns = dict.fromkeys(name for line in lines for name in line)
    return _tsv([*columns], [[line.get(name) for name in columns] for line in lines])


def _line(one: Result, found: dict[str, int]) -> dict[str, object]:
    """The figures of a result by their columns; what is not known is none."""
    names = ("patient", "score", "latents", "region", *_FIGURES)
    overlaps = {
        f"{figure}_{name}": getattr(overlap, figure)
        for name, overlap in one.overlaps.items()
        for figure in _OVERLAP
        if (name, figure) != (BEST, "dice")  # which is best_dice
    }
    return {name: getattr(one, name) for name in names} | found | overlaps


def table_tsv(summary: Table) -> str:
    """Return the AUC of scores × patients with a last column of means; `n/a` as in BIDS."""
    columns = ("region", "score", "latents", *summary.patients, "mean")
    lines = [
        [row.region, row.score, row.latents, *(cell.auc for cell in (*row.cells, row.mean))]
        for row in summary.rows
    ]
    return _tsv(columns, lines)


def table_markdown(summary: Table) -> str:
    """Return the AUC of scores × patients as a Markdown table, at or above the baseline in bold."""
    named, names = row_names(summary)
    header = [*named, *summary.patients, "Mean"]
    rule = ["---"] * len(named) + ["--:"] * (len(header) - len(named))
    lines = [
        [*name, *(_bold(cell) for cell in (*row.cells, row.mean))]
        for row, name in zip(summary.rows, names, strict=True)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in [header, rule, *lines])


def _bold(cell: Cell) -> str:
    return f"**{rounded(cell.auc)}**" if cell.bold else rounded(cell.auc)


def _tsv(columns: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    from pandas import DataFrame

    written: str = DataFrame(lines, columns=columns).to_csv(
        sep="\t", index=False, na_rep="n/a", float_format="%.6g", lineterminator="\n"
    )
    return written
