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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import peers
import placed_peers
import torch
from cohorts import MAIN_KIND, OTHER_KINDS, PEOPLE, Cohort, Design, Scan, real_lesion_masks
from heads_tables import (
    CHANGES,
    CLASSIFIER,
    FWHM,
    INPUT,
    MAHALANOBIS,
    SIGNED,
    SMOOTHED,
    UNSIGNED,
    controls_markdown,
    markdown,
)
from peers import EVERY, HARMONICS, Peer, by_neighbours
from placed_peers import DIRECTED, PLACED, REGISTRATION, UNDIRECTED, place_all
from results import write_section
from scoring import Log, Scored, score_cohort
from summary import Results, smoothed

from qspace_nd.scores import norms

HERE = Path(__file__).parent
KINDS = (*OTHER_KINDS, "anisotropy")
SEEDS = {"development": 501, "final": 9061}
"""Of the final ones 9051 and 9052 are spent: an earlier background was measured on them."""


def designs(stage: str, quick: bool) -> list[Design]:
    """The cohorts of a stage; the quick ones are no real people's, and need no data."""
    seed = SEEDS[stage]
    if quick:
        return [Design(seed, 8.0, reference=2, left_out=2, patients=2)]
    return [
        Design(seed, reference=8, left_out=8, patients=6, people=stage),
        Design(seed + 1, reference=16, left_out=8, patients=6, people=stage),
    ]


def ours(quick: bool, changes: Sequence[str], kinds: Sequence[str], controls: bool) -> list[Peer]:
    """Our scores, those that know a direction toward each of some changes."""
    fit = partial(placed_peers.ours, **({"epochs": 1} if quick else {}))
    some = partial(Peer, others=10**9, maps=EVERY, kinds=kinds, sources=PLACED)
    return [
        some(UNDIRECTED, partial(fit, names=UNDIRECTED), controls=controls),
        *(
            some(
                tuple(f"{name}, toward {change}" for name in DIRECTED),
                partial(fit, names=DIRECTED, toward=change),
                controls=controls and change == CHANGES[MAIN_KIND],
            )
            for change in changes
        ),
    ]


def rivals() -> list[Peer]:
    """What ours are compared with, on lesions of the main kind."""
    whole = partial(Peer, others=10**9, maps=EVERY, kinds=())
    return [
        whole(
            by_neighbours(INPUT),
            partial(peers.input_distance, channels=peers.DEFAULT_CHANNELS),
            sources=HARMONICS,
        ),
        whole(
            (*SIGNED, *UNSIGNED, MAHALANOBIS),
            placed_peers.deviations,
            sources=(*REGISTRATION, norms),
        ),
        whole((CLASSIFIER,), peers.supervised),
    ]


def measure(cohorts: Iterable[Cohort], quick: bool, cache: Path, log: Log) -> Iterator[Scored]:
    """Score cohorts by everything; the other kinds of lesion in the first one alone."""
    for number, cohort in enumerate(cohorts):
        kinds = KINDS if number == 0 else ()
        wanted = [*ours(quick, tuple(CHANGES.values()), kinds, controls=True), *rivals()]
        _place(cohort, cohort.left_out, (MAIN_KIND, *kinds), log)
        yield from score_cohort(cohort, number, wanted, cache, log)
        log(f"{cohort.design.name} is done")


def measure_controls(
    cohorts: Iterable[Cohort], quick: bool, cache: Path, log: Log
) -> Iterator[Scored]:
    """Score the patients of cohorts by ours."""
    wanted = ours(quick, (CHANGES[MAIN_KIND],), (), controls=False)
    for number, cohort in enumerate(cohorts):
        _place(cohort, (), (MAIN_KIND,), log)
        yield from score_cohort(cohort, number, wanted, cache, log)


def _place(cohort: Cohort, others: Sequence[Scan], kinds: Sequence[str], log: Log) -> None:
    """Simulate a cohort's reference and patients, and find where their voxels lie."""
    scans = [*cohort.reference, *others]
    scans += [scan for kind in kinds for scan in cohort.patients(kind)]
    log(f"{len(scans)} scans are simulated")
    torch.set_num_threads(cohort.jobs)
    place_all(cohort, scans)
    torch.set_num_threads(1)
    log("and placed")


def in_all_white_matter(scored: Scored) -> Scored:
    """The same scores, with all lesion voxels counted as white matter."""
    scan = scored.scan
    return replace(scored, scan=replace(scan, white_matter=scan.white_matter | scan.labels))


def with_smoothing(scored: Sequence[Scored]) -> list[Scored]:
    """Add every map of the main kind of lesion and of controls, smoothed, as further methods."""
    main = (MAIN_KIND, "healthy")
    maps = [one for one in scored if one.whole is not None and one.scan.kind in main]
    return [*scored, *(smoothed(one, FWHM, SMOOTHED) for one in maps)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=PEOPLE, required=True)
    parser.add_argument(
        "--controls", type=int, nargs="+", metavar="N", help="only this: by how many controls"
    )
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate and register")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()

    def log(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", flush=True)

    wanted = designs(options.stage, options.quick)
    if options.controls:
        wanted = [replace(wanted[0], reference=number) for number in options.controls]
    masks = [] if options.quick else real_lesion_masks()
    cohorts = (Cohort(one, masks, options.jobs, options.cache) for one in wanted)
    scoring = measure_controls if options.controls else measure
    scored = map(in_all_white_matter, scoring(cohorts, options.quick, options.cache, log))
    command = shlex.join(["python", "benchmarks/heads.py", *sys.argv[1:]])
    if options.controls:
        name, text = "-controls", controls_markdown(Results(list(scored)), options.stage, command)
    else:
        name, text = "", markdown(Results(with_smoothing(list(scored))), options.stage, command)
    print(text)
    output = options.output or (options.cache if options.quick else HERE)
    write_section(output / "RESULTS.md", f"heads-{options.stage}{name}", text)


if __name__ == "__main__":
    main()
