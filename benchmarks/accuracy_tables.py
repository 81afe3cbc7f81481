"""The results of accuracy.py as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import summary
from cohorts import LEAST_LESION_VOLUME, MAIN_KIND, OTHER_KINDS, Design
from peers import NEAREST, NEIGHBOURS, by_neighbours
from results import table
from scoring import Scored
from summary import (
    FIGURES,
    HEALTHY_ABOVE,
    Found,
    Interval,
    Results,
    difference,
    false_clusters,
    interval,
    lesions_found,
)

from qspace_nd.imaging.connected import LEAST_VOXELS
from qspace_nd.model.tuning import CHOICES, Trial

OURS = "latent-distance"
SUPERVISED = "supervised classifier"

VARIANTS = ("network seed", "only", "preset", "KL weight")
"""What names of other networks than the default's contain."""

CATALOGUED = "(catalogue)"

LEFT_OUT = ("mean of 5", "either sign", "heads turned", "rotation-invariant")
"""What names of methods contain that the longest tables alone show."""


def markdown(results: Results, stage: str, command: str, fwhm: float) -> str:
    """Everything that was measured, as a section of Markdown."""
    parts = [
        f"## Accuracy, {stage} cohorts",
        f"`{command}`, on one of two cores.",
        _cohorts(results),
    ]
    for title, text, tables in SECTIONS:
        written = [one(results, fwhm) for one in tables]
        if any(written):
            parts += [f"### {title}", text.replace("FWHM", f"{fwhm:g}"), *written]
    return "\n\n".join(part for part in parts if part) + "\n"


def headlines(results: Results, fwhm: float) -> list[str]:
    """The methods that are shown where there is room for the most telling ones alone."""
    return [name for name in results.names() if _is_headline(name, fwhm)]


def _is_headline(name: str, fwhm: float) -> bool:
    smoothed = name.endswith(f"smoothed {fwhm:g} mm") and _by_default(name)
    left_out = any(text in name for text in LEFT_OUT)
    return not left_out and (smoothed or not _aside(name))


def _aside(name: str) -> bool:
    return _smoothed(name) or CATALOGUED in name or any(text in name for text in VARIANTS)


def _is_variant(name: str) -> bool:
    return any(text in name for text in VARIANTS) and "mean of" not in name


def _smoothed(name: str) -> bool:
    return "smoothed" in name


def _by_default(name: str) -> bool:
    """Tell whether distances are the mean to as many neighbours as by default."""
    return "mean of" not in name and NEAREST not in name


def detection(results: Results, fwhm: float = 0.0) -> str:
    """Say in a table how well each method finds lesions."""
    return _detection(results, [name for name in results.names() if not _aside(name)])


def _cohorts(results: Results) -> str:
    designs = list(dict.fromkeys(one.cohort for one in results.of(OURS)))
    patients = results.of(OURS)
    lesions = [int(np.count_nonzero(one.scan.labels)) for one in patients]
    others = max(int(np.count_nonzero(~one.labels)) for one in patients)
    described = "; ".join(
        f"seed {one.seed}, {one.voxel_size:g} mm: {one.reference} controls as the reference, "
        f"{one.left_out} left out, {one.patients} patients"
        for one in designs
    )
    return (
        f"Cohorts: {described}. Lesions have the shapes of real ones (masks of at least "
        f"{LEAST_LESION_VOLUME / 1000:g} ml), {min(lesions):,} to {max(lesions):,} voxels a "
        f"patient. Every method is evaluated on the same voxels: all lesion voxels and {others:,} "
        "others of each patient at random, weighted to stand for all (the dear scores of the "
        "catalogue: on fewer of them)."
    )


def _smoothing(results: Results, fwhm: float) -> str:
    smooth = [name for name in results.names() if _smoothed(name) and "mean of" not in name]
    if not smooth:
        return ""

    def alike(name: str) -> str:
        width = name.partition(", smoothed ")[2] or f"{fwhm:g} mm"
        return f"{OURS}, smoothed {width}"

    return _detection(results, [OURS, SUPERVISED, *smooth], alike)


def _variants(results: Results, fwhm: float) -> str:
    others = [name for name in results.names() if _is_variant(name)]
    return _detection(results, [OURS, f"{OURS}, {NEAREST}", *others]) if others else ""


def _ours(name: str) -> str:
    return OURS


def _detection(
    results: Results, names: Sequence[str], against: Callable[[str], str] = _ours
) -> str:
    if not names:
        return ""
    most = len(results.detection(OURS))
    rows = []
    for name in names:
        theirs = results.detection(name)
        if not theirs:
            continue
        means = [f"{one.mean:.3f}" for one in interval(theirs)]
        gains = ["–", "–"]
        if name != against(name):
            between = difference(results.detection(against(name)), theirs)
            gains = [_signed(between[k]) for k in (0, 2)]
        note = "" if len(theirs) == most else f" ({len(theirs)} patients)"
        rows.append([name + note, *means, *gains])
    return table(
        ["", *FIGURES, "latent-distance − it: AUC, brain", "AUC, white matter"],
        rows,
    )


def _signed(one: Interval) -> str:
    return f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def _kinds(results: Results, fwhm: float) -> str:
    kinds = (MAIN_KIND, *OTHER_KINDS)
    rows = []
    for name in results.names():
        by_kind = [results.detection(name, kind) for kind in kinds]
        if all(by_kind):
            figures = [interval(values) for values in by_kind]
            rows.append([name, *(f"{one[0].mean:.3f} / {one[2].mean:.3f}" for one in figures)])
    return table(["", *kinds], rows)


def _found(results: Results, fwhm: float) -> str:
    rows, header = [], ["", "all"]
    for name in headlines(results, fwhm):
        controls = results.of(name, "healthy")
        if not controls:
            continue
        bins = lesions_found(results.of(name), controls)
        header = ["", *(volume(one) for one in bins), "all"]
        total = Found(
            0.0,
            np.inf,
            sum(one.lesions for one in bins),
            sum(one.by_controls for one in bins),
            sum(one.by_own for one in bins),
        )
        rows.append([name, *(_share(one) for one in (*bins, total))])
    return table(header, rows)


def volume(one: Found) -> str:
    """Say which volumes a bin of lesions has, and how many lesions are in it."""
    text = f"≥ {one.minimum:g}" if np.isinf(one.maximum) else f"{one.minimum:g}–{one.maximum:g}"
    return f"{text} mm³ ({one.lesions})"


def _share(one: Found) -> str:
    if not one.lesions:
        return "–"
    return f"{one.by_controls / one.lesions:.2f} \\| {one.by_own / one.lesions:.2f}"


def _clusters(results: Results, fwhm: float) -> str:
    rows = []
    for name in headlines(results, fwhm):
        controls = results.of(name, "healthy")
        if len(controls) < 2:
            continue
        found = false_clusters(results.of(name), controls)
        shares = np.array(found.shares)
        rows.append(
            [
                name,
                _spread(found.patients),
                _spread(found.controls),
                f"{shares.mean():.2%} ± {shares.std(ddof=1):.2%}, at most {shares.max():.2%}",
            ]
        )
    return table(["", "clusters, patients", "clusters, controls", "share above"], rows)


def _spread(counts: Sequence[int]) -> str:
    if not counts:
        return "–"
    return f"{np.mean(counts):.1f} ({min(counts)}–{max(counts)})"


def _seeds(results: Results, fwhm: float) -> str:
    names = [OURS, *(name for name in results.names() if _is_seed(name))]
    if len(names) < 2:
        return ""
    figures = np.array([[one.mean for one in interval(results.detection(name))] for name in names])
    spread = figures.std(axis=0, ddof=1)
    sampling = [(one.high - one.low) / 3.92 for one in interval(results.detection(OURS))]
    rows = [
        ["standard deviation over networks", *(f"{value:.4f}" for value in spread)],
        ["standard error over patients", *(f"{value:.4f}" for value in sampling)],
    ]
    return table([f"latent-distance, {len(names)} network seeds", *FIGURES], rows)


def _is_seed(name: str) -> bool:
    return "network seed" in name and _by_default(name) and not _smoothed(name)


def _training(results: Results, fwhm: float) -> str:
    rows = {}
    for one in results.scored:
        if "alive" in one.facts and _by_default(one.name) and not _smoothed(one.name):
            facts = one.facts
            rows[one.name, one.cohort] = [
                one.name,
                str(one.cohort.seed),
                f"{facts['alive']} of {facts['latents']}",
                str(facts["steps"]),
                f"{facts['validation loss']:.2f}",
                f"{facts['late fall']:.1%}",
                f"{facts['seconds']:.0f}",
            ]
    header = [
        "",
        "cohort",
        "latents alive",
        "steps",
        "validation loss",
        "of its fall, in the last tenth",
        "seconds",
    ]
    return table(header, rows.values())


def _tuning(results: Results, fwhm: float) -> str:
    """The setting of highest AUC on changed healthy voxels beside that of highest AUC on lesions.

    Among all settings with at most so many latents as `fit --tune` tries, and among those with
    each number of latents.
    """
    rows = []
    for cohort in dict.fromkeys(one.cohort for one in results.scored):
        trials = [
            trial
            for name in results.names()
            if (latents := _latents(name)) is not None
            for trial in [_trial(results, name, latents, cohort)]
        ]
        every = sorted({trial.latents for trial in trials})
        for text, allowed in (
            ("all that --tune tries", CHOICES["latents"]),
            *((f"{latents} latents", (latents,)) for latents in every),
        ):
            among = [trial for trial in trials if trial.latents in allowed]
            if not among:
                continue
            chosen = max(among, key=lambda trial: trial.merit)
            best = max(among, key=lambda trial: trial.found)
            rows.append(
                [
                    text,
                    str(cohort.seed),
                    chosen.name,
                    f"{chosen.auc:.3f}",
                    f"{chosen.found:.3f}",
                    f"{best.name}: {best.found:.3f}",
                    f"{chosen.found - best.found:+.3f}",
                ]
            )
    header = ["among", "cohort", "chosen", "AUC, changed", "AUC, lesions", "best by labels", "less"]
    return table(header, rows) if rows else ""


@dataclass(frozen=True)
class LabelledTrial(Trial):
    """A trial of `fit --tune` with the AUC on lesions."""

    name: str
    latents: int
    found: float


def _latents(name: str) -> int | None:
    number, found, _ = name.partition(" latents, KL weight")
    return int(number) if found else None


def _trial(results: Results, name: str, latents: int, cohort: Design) -> LabelledTrial:
    of = [one for one in results.of(name) if one.cohort == cohort]
    facts, column = of[0].facts, by_neighbours(of[0].method).index(name)
    found = float(np.mean([summary.detection(one)[0] for one in of]))
    dead = facts["latents"] - facts["alive"]
    return LabelledTrial({}, facts["altered"][column], dead, name, latents, found)


def _times(results: Results, fwhm: float) -> str:
    rows = []
    for method in dict.fromkeys(one.method for one in results.scored):
        of = results.of(method)
        learning = np.median([one.facts["seconds"] for one in of])
        scoring = np.median([_per_ten_thousand(one) for one in of])
        rows.append([method, f"{learning:.1f}", f"{scoring:.2f}"])
    return table(["", "learning", "scoring 10,000"], rows)


def _per_ten_thousand(one: Scored) -> float:
    voxels = len(one.rows) if one.whole is None else len(one.whole)
    return one.seconds / voxels * 1e4


def _catalogued(results: Results, fwhm: float) -> str:
    return _detection(results, [name for name in results.names() if CATALOGUED in name])


class Section(NamedTuple):
    """A part of the report; it is left out where all its tables are empty.

    `FWHM` in the text stands for the width of the smoothing, in mm.
    """

    title: str
    text: str
    tables: tuple[Callable[[Results, float], str], ...]


SECTIONS = (
    Section(
        "Finding lesions",
        "Means over cohorts of means over patients, and the paired difference of latent-distance "
        "to each method with its 95 % bootstrap interval over patients. AP: average precision. "
        f"Distances are the mean to {NEIGHBOURS[0]} neighbours, as by default, but where another "
        "number is said.",
        (detection,),
    ),
    Section(
        "Kinds of lesion",
        "AUC in the brain / within white matter; the same heads, networks and places.",
        (_kinds,),
    ),
    Section(
        "Lesions found by volume",
        f"The share of lesions with a voxel above the score that {HEALTHY_ABOVE:.0%} of healthy "
        "voxels exceed: of left-out controls | of the patient's own voxels outside lesions.",
        (_found,),
    ),
    Section(
        "Where there is no lesion",
        f"Clusters of at least {LEAST_VOXELS} voxels above the threshold of left-out controls "
        "that touch no lesion, and the share of a left-out control's voxels above the threshold "
        f"of the other ones ({HEALTHY_ABOVE:.1%} is wanted).",
        (_clusters,),
    ),
    Section(
        "Smoothing",
        "Gaussian inside the brain, full width at half maximum, of the methods with whole maps; "
        "the difference is that of latent-distance smoothed alike (by FWHM mm to what is not "
        "smoothed).",
        (_smoothing,),
    ),
    Section("Network seeds, channels, the paper's training", "", (_variants, _seeds, _training)),
    Section(
        "Settings chosen without labels",
        "What `fit --tune` chooses by changed healthy white matter, and the best by the patients' "
        "labels among the same settings: AUC in the brain.",
        (_tuning,),
    ),
    Section(
        "The other scores",
        "On the first cohort; the dear ones on fewer voxels.",
        (_catalogued,),
    ),
    Section(
        "Time",
        "Processor seconds to learn from a cohort, and to score 10,000 voxels; medians.",
        (_times,),
    ),
)
