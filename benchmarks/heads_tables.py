"""The tables of `heads.py`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from cohorts import MAIN_KIND, Design
from numpy.typing import NDArray
from placed_peers import DIRECTED, UNDIRECTED
from results import table
from scoring import Scored
from summary import (
    FIGURES,
    HEALTHY_ABOVE,
    Interval,
    Results,
    difference,
    false_clusters,
    interval,
)

from qspace_nd.evaluation.froc import Curve, froc

CHANGES = {
    MAIN_KIND: "demyelination",
    "restricted": "restricted",
    "mild-t2": "t2=+",
    "anisotropy": "axonal-loss",
}
"""The direction that is right for each kind of lesion."""

RIGHT = f", toward {CHANGES[MAIN_KIND]}"
FWHM = 6.0
"""mm: how widely maps are smoothed, all alike."""

SMOOTHED = f", smoothed {FWHM:g} mm"

BASELINE, INPUT = "latent-distance", "input-distance"
SIGNED = tuple(f"z of {name} at the place" for name in ("b=0", "MD", "FA"))
UNSIGNED = tuple(f"{name}, either sign" for name in SIGNED)
MAHALANOBIS = "Mahalanobis distance at the place"
CLASSIFIER = "supervised classifier"

KNOWS = {
    BASELINE: "nothing",
    "placed-distance": "place",
    "latent-placed-distance": "place",
    **{f"{name}{RIGHT}": "place, sign" for name in DIRECTED},
    INPUT: "nothing",
    **dict.fromkeys(SIGNED, "place, sign"),
    **dict.fromkeys(UNSIGNED, "place"),
    MAHALANOBIS: "place",
    CLASSIFIER: "labels",
}
"""What each method is told beside the signals of healthy people."""

RIVALS = {
    "latent-placed-distance": (INPUT, *UNSIGNED, MAHALANOBIS),
    f"{DIRECTED[-1]}{RIGHT}": (INPUT, *SIGNED, *UNSIGNED, MAHALANOBIS, CLASSIFIER),
}
"""What ours are compared with: methods that know no more, and the classifier."""

FALSE = (1, 5)
"""False clusters a scan at which lesions are counted."""

FEW_ABOVE = 0.001
"""The share of healthy voxels above the threshold that clusters are counted at."""

RESAMPLES = 1000


def markdown(results: Results, stage: str, command: str) -> str:
    """The section of a stage."""
    names = [name for name in results.names() if name.removesuffix(SMOOTHED) in KNOWS]
    cohorts = _cohorts(results)
    return "\n\n".join(
        [
            f"## Real people's heads, {stage} cohorts",
            f"`{command}`: simulated signal on real people's heads, voxels of "
            f"{cohorts[0].voxel_size:g} mm; lesions of demyelination where nothing else is said.",
            "AUC and average precision (AP), the mean over patients with its 95 % interval; in "
            "brackets the difference to latent-distance, smoothed alike. White matter is with all "
            "lesion voxels.",
            *(f"{_title(one)}:\n\n{_detection(_only(results, one), names)}" for one in cohorts),
            *([f"All cohorts:\n\n{_detection(results, names)}"] if len(cohorts) > 1 else []),
            "How far ours are ahead of each other method, the same patients of all cohorts:",
            _ahead(results, names),
            "The share of lesions of 5 voxels and more that are found at "
            f"{FALSE[0]} and {FALSE[1]} false clusters a scan: the mean of the cohorts with its "
            "95 % interval over patients, in brackets the difference to latent-distance, smoothed "
            "alike, and each cohort. A cluster of 5 voxels and more is a hit if 30 % of it lies in "
            "lesions and their rim of a voxel.",
            _found(results, names),
            f"Clusters above what {FEW_ABOVE:.1%} of the left-out controls' voxels exceed: in a "
            "control (by the other ones), in a patient, and in a patient away from lesions; the "
            f"worst control's share of voxels above what {HEALTHY_ABOVE:.0%} of the others exceed. "
            "The mean of the cohorts, and each.",
            _clusters(results, names),
            f"Kinds of lesion in the first cohort ({_title(cohorts[0])}), with the right direction "
            "(bold), wrong ones and none: AUC in the brain / white matter, AP in both.",
            _kinds(_only(results, cohorts[0])),
        ]
    )


def controls_markdown(results: Results, stage: str, command: str) -> str:
    """The section of how many controls it takes."""
    names = [name for name in results.names() if name in KNOWS]
    rows = []
    for one in _cohorts(results):
        some = _only(results, one)
        rows.append([str(one.reference), *(_four(some, name) for name in names)])
    return "\n\n".join(
        [
            f"## Real people's heads, {stage} cohort, by the number of controls",
            f"`{command}`: the same patients; AUC in the brain / white matter, AP in both.",
            table(["controls", *names], rows),
        ]
    )


def _cohorts(results: Results) -> list[Design]:
    return list(dict.fromkeys(one.cohort for one in results.scored))


def _only(results: Results, cohort: Design) -> Results:
    return Results([one for one in results.scored if one.cohort == cohort])


def _title(cohort: Design) -> str:
    return f"{cohort.reference} controls, {cohort.left_out} left out, {cohort.patients} patients"


def _baseline(name: str) -> str:
    return BASELINE + (SMOOTHED if name.endswith(SMOOTHED) else "")


def _knows(name: str) -> str:
    return KNOWS[name.removesuffix(SMOOTHED)]


def _signed(one: Interval) -> str:
    return f"{one.mean:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def _with_gain(one: Interval, gain: Interval | None) -> str:
    text = f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
    return text if gain is None else f"{text} ({_signed(gain)})"


# --- voxels ------------------------------------------------------------------------------------


def _detection(results: Results, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        figures, other = results.detection(name), _baseline(name)
        gains = (
            [None] * len(FIGURES)
            if name == other
            else difference(figures, results.detection(other))
        )
        cells = map(_with_gain, interval(figures), gains)
        rows.append([name, _knows(name), *cells])
    return table(["", "knows", *FIGURES], rows)


def _ahead(results: Results, names: Sequence[str]) -> str:
    rows = []
    for suffix in ("", SMOOTHED):
        for own, others in RIVALS.items():
            figures = results.detection(own + suffix)
            for other in (one for one in others if one + suffix in names):
                gains = difference(figures, results.detection(other + suffix))
                rows.append([own + suffix, other, _knows(other), *map(_signed, gains)])
    return table(["", "ahead of", "which knows", *FIGURES], rows)


def _kinds(results: Results) -> str:
    best = DIRECTED[-1]
    names = [*UNDIRECTED, *(f"{best}, toward {change}" for change in CHANGES.values())]
    rows = []
    for name in names:
        cells = [
            f"**{_four(results, name, kind)}**"
            if name.endswith(f"toward {right}")
            else _four(results, name, kind)
            for kind, right in CHANGES.items()
        ]
        rows.append([name, *cells])
    return table(["", *CHANGES], rows)


def _four(results: Results, name: str, kind: str = MAIN_KIND) -> str:
    """AUC in the brain and in white matter, then AP in both, in one cell."""
    auc, ap, white_auc, white_ap = (one.mean for one in interval(results.detection(name, kind)))
    return f"{auc:.3f}/{white_auc:.3f}, {ap:.3f}/{white_ap:.3f}"


# --- lesions and clusters ----------------------------------------------------------------------


def _found(results: Results, names: Sequence[str]) -> str:
    drawn = {name: _resampled(results, name) for name in names if _mapped(results, name)}
    rows = []
    for name, shares in drawn.items():
        other = drawn[_baseline(name)]
        cells = []
        for k in range(len(FALSE)):
            own, base = shares[..., k].mean(axis=0), other[..., k].mean(axis=0)
            gain = None if name == _baseline(name) else _interval(own - base)
            each = ", ".join(f"{share:.2f}" for share in shares[:, 0, k])
            cells.append(f"{_with_gain(_interval(own), gain)}; {each}")
        rows.append([name, _knows(name), *cells])
    return table(["", "knows", *(f"found at {false}" for false in FALSE)], rows)


def _mapped(results: Results, name: str) -> bool:
    return all(one.whole is not None for one in results.of(name))


def _interval(values: NDArray[np.float64]) -> Interval:
    """Of a figure and then what it is of resampled patients: (1 + RESAMPLES,)."""
    low, high = np.percentile(values[1:], [2.5, 97.5])
    return Interval(float(values[0]), float(low), float(high))


def _resampled(results: Results, name: str) -> NDArray[np.float64]:
    """Shares of lesions found, of all patients and then of resampled ones.

    Shape (cohorts, 1 + RESAMPLES, len(FALSE)); the same draws whatever the method.
    """
    rng = np.random.default_rng(0)
    found = []
    for cohort in _cohorts(results):
        curve = _curve(tuple(_only(results, cohort).of(name)))
        count = len(curve.lesions)
        draws = [np.arange(count), *rng.integers(count, size=(RESAMPLES, count))]
        curves = [curve.of(draw) for draw in draws]
        found.append([[one.at(false) for false in FALSE] for one in curves])
    return np.array(found)


@cache
def _curve(scored: tuple[Scored, ...]) -> Curve:
    """The FROC of a cohort's patients."""
    whole = [(one.scan, one.whole) for one in scored if one.whole is not None]
    return froc(
        [scan.volume(values) for scan, values in whole],
        [scan.volume(scan.labels, False) for scan, _ in whole],
        [scan.mask for scan, _ in whole],
    )


def _clusters(results: Results, names: Sequence[str]) -> str:
    cohorts = [_only(results, one) for one in _cohorts(results)]
    rows = []
    for name in names:
        each = [_counted(one.of(name), one.of(name, "healthy")) for one in cohorts]
        *counts, worst = np.transpose(each)
        texts = [
            f"{np.mean(some):.1f}; {', '.join(f'{one:.1f}' for one in some)}" for some in counts
        ]
        rows.append([name, *texts, ", ".join(f"{one:.1%}" for one in worst)])
    header = ["", "in a control", "in a patient", "away from lesions", "worst control"]
    return table(header, rows)


def _counted(patients: Sequence[Scored], controls: Sequence[Scored]) -> list[float]:
    """Clusters in a control, in a patient and away from its lesions; the worst control's share."""
    few = false_clusters(patients, controls, FEW_ABOVE)
    counts = [float(np.mean(some)) for some in (few.controls, few.everywhere, few.patients)]
    return [*counts, max(false_clusters(patients, controls).shares)]
