"""The sections of RESULTS.md on what maps mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from cohorts import Design
from comparing import FALSE, SHARES, Compared
from results import table
from sklearn.metrics import roc_auc_score

from qspace_nd.calibration.comparable import FWHM
from qspace_nd.calibration.forming import CLUSTER_SHARE

KNOWS = {
    "latent-distance": "nothing",
    "input-distance, to 1 in 16": "nothing",
    "latent-placed-distance": "place",
    "latent-placed-directed-distance": "place, sign",
    "z of MD, signed": "place, sign",
    "z of MD, either sign": "place",
    "z of b=0, signed": "place, sign",
    "z of b=0, either sign": "place",
    "Mahalanobis distance": "place",
}
"""What each method is told; nobody is told labels."""

OURS = ("latent-distance", "latent-placed-distance", "latent-placed-directed-distance")
_RESAMPLES = 10_000

Found = Mapping[str, Compared]
Figure = Callable[[Compared, float], float]


def markdown(
    designs: Sequence[Design], found: Sequence[Found], stage: str, command: str, minutes: str
) -> str:
    """The section of a stage's cohorts."""
    people = ", ".join(str(one.reference) for one in designs)
    newcomers = sum(one.left_out for one in designs)
    patients = sum(one.patients for one in designs)
    return "\n\n".join(
        [
            f"## What maps mean, by people who took no part ({stage}, simulated)",
            f"`{command}` ({minutes}): cohorts of {people} controls to learn from, together "
            f"{newcomers} newcomers and {patients} patients with demyelinating lesions; different "
            f"people's heads, simulated signal. All maps are smoothed by {FWHM:g} mm and brought "
            f"to the controls' level; clusters are of voxels with p below {CLUSTER_SHARE:g}, by "
            f"their mass; a lesion has 5 voxels or more, and a cluster finds it if 30 % of the "
            f"cluster lies in lesions and their rim. Means over cohorts.",
            "Share of newcomers' voxels over the nominal one:",
            table(
                [
                    "score",
                    *(f"p < {share:g}, {of}" for share in SHARES for of in ("mean", "worst")),
                ],
                [[name, *_realised(found, name)] for name in OURS],
            ),
            "Clusters counted in a newcomer, of which so many are expected:",
            table(
                ["score", *map(str, FALSE)],
                [
                    [name, *(f"{_mean(found, name, Compared.counted, n):.2f}" for n in FALSE)]
                    for name in OURS
                ],
            ),
            "Lesions found, at 1, 2 and 5 false clusters a patient's scan, by a threshold on the "
            "map as it is and by the mass of its clusters; and at 1, 2 and 5 expected ones, which "
            "a reader without labels can set:",
            table(
                ["map", "knows", "as it is", "by mass", "by expected", "beyond all controls"],
                [[name, KNOWS[name], *_lesions(found, name)] for name in KNOWS],
            ),
            "Patients against newcomers by the mass of clusters that no control has (AUC over "
            "people, 95 % by bootstrap):",
            table(["score", "AUC"], [[name, _auc(found, name)] for name in OURS]),
        ]
    )


def controls_markdown(
    designs: Sequence[Design], found: Sequence[Found], stage: str, command: str, minutes: str
) -> str:
    """The section on how many controls there are."""
    header = [
        *("controls", "p < 0.01, mean", "worst", "p < 0.001, mean", "worst"),
        *("counted where 1, 2, 5 are expected", "lesions found there", "beyond all", "AUC, people"),
    ]
    parts = [
        f"## By how many controls ({stage}, simulated)",
        f"`{command}` ({minutes}): the same {designs[0].left_out} newcomers and "
        f"{designs[0].patients} patients by more and more controls; `latent-distance`, else as "
        "above.",
    ]
    name = OURS[0]
    rows = []
    for design, one in zip(designs, found, strict=True):
        counted = " / ".join(f"{one[name].counted(n):.2f}" for n in FALSE)
        lesions = " / ".join(f"{one[name].at_expected(n):.2f}" for n in FALSE)
        beyond = f"{one[name].beyond():.2f}"
        row = [str(design.reference), *_realised([one], name), counted, lesions, beyond]
        rows.append([*row, _auc([one], name)])
    return "\n\n".join([*parts, table(header, rows)])


def _realised(found: Sequence[Found], name: str) -> list[str]:
    shares = np.array([one.shares for each in found for one in each[name].newcomers]) / SHARES
    return [f"{value:.2f}" for own in shares.T for value in (own.mean(), own.max())]


def _mean(found: Sequence[Found], name: str, figure: Figure, number: float) -> float:
    return float(np.mean([figure(one[name], number) for one in found]))


def _lesions(found: Sequence[Found], name: str) -> list[str]:
    raw = np.mean([one[name].raw for one in found], axis=0)
    return [
        " / ".join(f"{value:.2f}" for value in raw),
        *(
            " / ".join(f"{_mean(found, name, figure, n):.2f}" for n in FALSE)
            for figure in (Compared.at_false, Compared.at_expected)
        ),
        f"{np.mean([one[name].beyond() for one in found]):.2f}",
    ]


def _auc(found: Sequence[Found], name: str) -> str:
    """AUC by mass beyond, cohort by cohort, and its interval over people."""
    random = np.random.default_rng(0)
    groups = [
        [
            np.array([person.mass_beyond for person in people])
            for people in (one[name].newcomers, one[name].patients)
        ]
        for one in found
    ]

    def auc(draw: bool) -> float:
        figures = []
        for groups_of_cohort in groups:
            healthy, ill = (
                random.choice(some, len(some)) if draw else some for some in groups_of_cohort
            )
            truth = np.repeat([0, 1], [len(healthy), len(ill)])
            figures.append(roc_auc_score(truth, np.concatenate([healthy, ill])))
        return float(np.mean(figures))

    low, high = np.percentile([auc(True) for _ in range(_RESAMPLES // 10)], [2.5, 97.5])
    return f"{auc(False):.2f} [{low:.2f}, {high:.2f}]"
