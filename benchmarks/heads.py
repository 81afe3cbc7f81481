"""Measure on real people's heads what the place and the direction of a change are worth.

    QSPACE_ND_DATA=... python benchmarks/heads.py --stage development
    QSPACE_ND_DATA=... python benchmarks/heads.py --stage final

The signal is simulated, on segmented anatomies of healthy people, each in its own space, with
variation of the tissue and of the receiver over 4 to 40 mm. The people of the two stages are
others; of a cohort nobody is used twice.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import peers
import placed_peers
import torch
from cohorts import MAIN_KIND, OTHER_KINDS, PEOPLE, Cohort, Design, real_lesion_masks
from peers import EVERY, Peer
from placed_peers import DIRECTED, PLACED, REGISTRATION, UNDIRECTED, place_all
from results import table, write_section
from scoring import Scored, score_cohort
from summary import FIGURES, Results, difference, false_clusters, interval, smoothed

from qspace_nd.evaluation.froc import Curve, froc

HERE = Path(__file__).parent
KINDS = (*OTHER_KINDS, "anisotropy")
CHANGES = {
    MAIN_KIND: "demyelination",
    "restricted": "restricted",
    "mild-t2": "t2=+",
    "anisotropy": "axonal-loss",
}
"""The direction that is right for each kind of lesion."""

FWHM = 6.0
"""mm: how widely maps are smoothed, all alike."""

Z = tuple(
    f"z of {name} at the place{sign}"
    for sign in ("", ", either sign")
    for name in ("b=0", "MD", "FA")
)
MAHALANOBIS = "Mahalanobis distance at the place"
BASELINE = "latent-distance"

KNOWS = {
    "latent-distance": "nothing",
    "placed-distance": "place",
    "latent-placed-distance": "place",
    **dict.fromkeys(DIRECTED, "place, sign"),
    **{name: "place" if "either" in name else "place, sign" for name in Z},
    MAHALANOBIS: "place",
    "supervised classifier": "labels",
}
"""What each method is told beside the signals of healthy people."""


SEEDS = {"development": 501, "final": 9051}
FIRST = 8
"""The number of controls for which all is measured."""


def design_of(stage: str, controls: int, quick: bool) -> Design:
    """The cohort of a stage with so many controls to learn from."""
    if quick:
        return Design(SEEDS[stage], 7.0, reference=2, left_out=2, patients=2, people=stage)
    seed = SEEDS[stage] + (controls != FIRST)
    return Design(seed, reference=controls, left_out=8, patients=6, people=stage)


def methods(quick: bool, kinds: Sequence[str]) -> list[Peer]:
    """All that is measured, in the order of the table."""
    settings = {"epochs": 1} if quick else {}
    whole = partial(Peer, others=10**9, maps=EVERY)
    ours = partial(placed_peers.ours, **settings)
    found = [
        whole(UNDIRECTED, partial(ours, names=UNDIRECTED), kinds=kinds, sources=PLACED),
        *(
            whole(
                tuple(f"{name}, toward {change}" for name in DIRECTED),
                partial(ours, names=DIRECTED, toward=change),
                kinds=kinds,
                sources=PLACED,
                controls=change == CHANGES[MAIN_KIND],
            )
            for change in CHANGES.values()
        ),
        whole((*Z, MAHALANOBIS), placed_peers.deviations, kinds=(), sources=REGISTRATION),
        whole(("supervised classifier",), peers.supervised, kinds=()),
    ]
    return found


def plain(name: str) -> str:
    """A method's name without the change that is right for the main kind, and the smoothing."""
    return name.removesuffix(f", smoothed {FWHM:g} mm").removesuffix(
        f", toward {CHANGES[MAIN_KIND]}"
    )


def markdown(results: Results, command: str) -> str:
    """The section of a stage."""
    names = [name for name in results.names() if plain(name) in KNOWS]
    parts = [
        f"`{command}`: simulated signal on real people's heads. {_cohorts(results)}",
        "AUC and average precision (AP), the mean over the patients of all cohorts with its 95 % "
        "interval over patients; in brackets the difference to latent-distance, smoothed alike.",
        _detection(results, names),
        "Lesions of 5 voxels and more found at 1 and 5 false clusters a scan (a cluster is a hit "
        "if 30 % of it lies in lesions and their rim), a cohort each; clusters above the left-out "
        "controls' 1 % in a control and, away from lesions, in a patient; and the worst left-out "
        "control's share of voxels above the others' 1 %.",
        _clusters(results, names),
    ]
    if {one.scan.kind for one in results.scored} > {MAIN_KIND, "healthy"}:
        parts += [
            "Kinds of lesion in the first cohort, with the right direction (bold), wrong ones and "
            "none: AUC and AP in white matter.",
            _kinds(results),
        ]
    return "\n\n".join(parts)


def _cohorts(results: Results) -> str:
    found = dict.fromkeys(one.cohort for one in results.scored)
    texts = [
        f"{one.reference} controls to learn from, {one.left_out} left out, {one.patients} patients"
        for one in found
    ]
    return f"Cohorts: {'; '.join(texts)}; voxels of {next(iter(found)).voxel_size:g} mm."


def _detection(results: Results, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        figures = results.detection(name)
        other = BASELINE + (f", smoothed {FWHM:g} mm" if "smoothed" in name else "")
        gains = difference(figures, results.detection(other))
        cells = [
            f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
            + ("" if name == other else f" ({gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}])")
            for one, gain in zip(interval(figures), gains, strict=True)
        ]
        rows.append([name, KNOWS[plain(name)], *cells])
    return table(["", "knows", *FIGURES], rows)


def curve(scored: Sequence[Scored]) -> Curve:
    """The FROC of a cohort's patients."""
    whole = [(one.scan, one.whole) for one in scored if one.whole is not None]
    return froc(
        [scan.volume(values) for scan, values in whole],
        [scan.volume(scan.labels, False) for scan, _ in whole],
        [scan.mask for scan, _ in whole],
    )


def _clusters(results: Results, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        patients, controls = results.of(name), results.of(name, "healthy")
        cohorts = list(dict.fromkeys(one.cohort for one in patients))
        curves = [curve([one for one in patients if one.cohort == cohort]) for cohort in cohorts]
        found = [", ".join(f"{one.at(false):.2f}" for one in curves) for false in (1, 5)]
        off = false_clusters(patients, controls)
        counts = [f"{sum(some) / max(len(some), 1):.1f}" for some in (off.controls, off.patients)]
        rows.append([name, *found, " / ".join(counts), f"{100 * max(off.shares):.1f} %"])
    header = ["", "found at 1", "found at 5", "clusters, control / patient", "worst control"]
    return table(header, rows)


def _kinds(results: Results) -> str:
    first = results.scored[0].cohort
    results = Results([one for one in results.scored if one.cohort == first])
    best = DIRECTED[-1]
    names = [*UNDIRECTED, *(f"{best}, toward {change}" for change in CHANGES.values())]
    rows = []
    for name in names:
        cells = []
        for kind, right in CHANGES.items():
            auc, ap = interval(results.detection(name, kind))[2:]
            cell = f"{auc.mean:.3f}, {ap.mean:.3f}"
            cells.append(f"**{cell}**" if name.endswith(f"toward {right}") else cell)
        rows.append([name, *cells])
    return table(["", *CHANGES], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=PEOPLE, required=True)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument(
        "--controls", type=int, nargs="+", default=[8, 16], help="to learn from, a cohort each"
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate and register")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: here")
    options = parser.parse_args()
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    torch.set_num_threads(options.jobs)
    command = shlex.join(["python", "benchmarks/heads.py", *sys.argv[1:]])
    output = options.output or (options.cache if options.quick else HERE)
    scored: list[Scored] = []
    for number, controls in enumerate(options.controls):
        design = design_of(options.stage, controls, options.quick)
        cohort = Cohort(design, real_lesion_masks(), options.jobs)
        kinds = (MAIN_KIND, *KINDS) if controls == FIRST else (MAIN_KIND,)
        scans = [*cohort.reference, *cohort.left_out]
        scans += [scan for kind in kinds for scan in cohort.patients(kind)]
        log(f"{len(scans)} scans are simulated")
        place_all(cohort, scans)
        log("and placed")
        wanted = methods(options.quick, kinds[1:])
        scored += score_cohort(cohort, number, wanted, options.cache, log)
        log(f"{design.name} is scored")
        main_kind = [one for one in scored if one.scan.kind in (MAIN_KIND, "healthy")]
        smooth = [smoothed(one, FWHM, f", smoothed {FWHM:g} mm") for one in main_kind]
        text = markdown(Results([*scored, *smooth]), command)
        name = "-".join(["heads", options.stage, *map(str, options.controls)])
        write_section(output / "RESULTS.md", name, text)
        log(f"{design.name} is done")
        print(text)


if __name__ == "__main__":
    main()
