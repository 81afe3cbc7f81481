"""Measure on people who took no part whether maps mean what they say.

    QSPACE_ND_DATA=... python benchmarks/calibration.py --stage development
    QSPACE_ND_DATA=... python benchmarks/calibration.py --stage final
    QSPACE_ND_DATA=... python benchmarks/calibration.py --stage final --controls 4 6 8 12 20 24

The signal is simulated, on segmented anatomies of healthy people, each in its own space; the people
of the two stages are others, and of a cohort nobody is used twice. Every method's map of every
person is compared with healthy people's as `map` does it: smoothed, brought to one level, -log10 p,
clusters by their mass. Healthy people of the model have maps of which they were left out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from calibration_tables import controls_markdown, markdown
from cohorts import PEOPLE, Cohort, Design, Scan, Values, arrays, digest, real_lesion_masks
from comparing import Compared, compare
from numpy.typing import NDArray
from peers import CHANNELS, DEFAULT_CHANNELS, HARMONICS, NEIGHBOURS, resampled_means
from placed_peers import PLACED, deviations, located, place_all, placed_model
from results import write_section
from scoring import Log

from qspace_nd.calibration.null import HealthyMap
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.scores import norms
from qspace_nd.searching.nearest import NearestNeighbours

HERE = Path(__file__).parent
SEEDS = {"development": 7002, "final": 9801}
REFERENCE = {"development": (12, 8), "final": (8, 10, 12)}
TOWARD = "demyelination"

UNDIRECTED = ("latent-distance", "latent-placed-distance")
INPUT = "input-distance, to 1 in 16"
"""Of all healthy voxels it takes minutes a scan, for each who is left out."""
DIRECTED = ("latent-placed-directed-distance",)
PEERS = {
    "z of MD, signed": 1,
    "z of MD, either sign": 4,
    "z of b=0, signed": 0,
    "z of b=0, either sign": 3,
    "Mahalanobis distance": 6,
}
"""The column of `placed_peers.deviations` of each."""

Maps = Mapping[str, NDArray[np.float32]]


def designs(stage: str, left_out: int, patients: int) -> list[Design]:
    """The cohorts of a stage."""
    return [
        Design(SEEDS[stage] + number, 3.0, reference, left_out, patients, people=stage)
        for number, reference in enumerate(REFERENCE[stage])
    ]


def maps_of(cohort: Cohort, scan: Scan, leave_out: str | None) -> Maps:
    """Every method's map (n,) of a scan, itself left out of the reference where it is of it."""

    def build() -> dict[str, NDArray[np.float32]]:
        model = placed_model(cohort)
        x, where = CHANNELS[DEFAULT_CHANNELS](cohort, scan), located(cohort, scan)
        found = model.novelties(x, UNDIRECTED, leave_out=leave_out, located=where)
        found |= model.novelties(x, DIRECTED, leave_out=leave_out, located=where, toward=TOWARD)
        found[INPUT] = input_distance(cohort, x, leave_out)
        rest = deviations(cohort, leave_out).score(scan, np.arange(len(x)))
        return found | {name: rest[:, column].astype(np.float32) for name, column in PEERS.items()}

    folder = cohort.kept(*PLACED, *HARMONICS, norms)
    name = f"{scan.name}-{scan.kind}-{digest(UNDIRECTED, INPUT, DIRECTED, PEERS)}.npz"
    return arrays(folder and folder / "maps" / name, build)


def input_distance(cohort: Cohort, x: NDArray[np.float32], leave_out: str | None) -> Values:
    """The mean distance of signals (n, C) to the nearest of 1 in 16 healthy voxels."""
    others = [scan for scan in cohort.reference if scan.name != leave_out]
    some = [CHANNELS[DEFAULT_CHANNELS](cohort, scan)[::16] for scan in others]
    nearest = NearestNeighbours(np.concatenate(some))
    return nearest.distances(x, NEIGHBOURS[0]).mean(axis=1).astype(np.float32)


def measure(cohort: Cohort, log: Log) -> dict[str, Compared]:
    """Simulate, fit and map a cohort; compare its people by every method."""
    healthy, newcomers, patients = cohort.reference, cohort.left_out, cohort.patients()
    log(f"{cohort.design.name}: {len([*healthy, *newcomers, *patients])} scans are simulated")
    torch.set_num_threads(cohort.jobs)
    place_all(cohort, [*healthy, *newcomers, *patients])
    log("they are placed")
    placed_model(cohort)
    log("the model is fitted")
    reference = [maps_of(cohort, scan, scan.name) for scan in healthy]
    log("healthy people are mapped")
    others = {scan: maps_of(cohort, scan, None) for scan in (*newcomers, *patients)}
    log("and the others")
    torch.set_num_threads(1)
    found = {}
    for name in (*UNDIRECTED, *DIRECTED, INPUT, *PEERS):
        maps = [
            HealthyMap(scan.name, own[name], scan.mask, scan.affine)
            for scan, own in zip(healthy, reference, strict=True)
        ]
        found[name] = compare(maps, [(scan, own[name]) for scan, own in others.items()])
    return found


def measure_plain(cohort: Cohort, newcomers: Sequence[Scan], log: Log) -> dict[str, Compared]:
    """The same of the default score alone, which needs no place, with newcomers that are given."""
    patients = cohort.patients()
    parts = [Healthy(s.name, CHANNELS[DEFAULT_CHANNELS](cohort, s)) for s in cohort.reference]
    acquisition = Acquisition(resampled_means(cohort), cohort.table, (), resampled=True)
    torch.set_num_threads(cohort.jobs)
    model = NoveltyModel(device="cpu").fit_parts(parts, acquisition=acquisition)

    def novelty(scan: Scan, leave_out: str | None = None) -> NDArray[np.float32]:
        x = CHANNELS[DEFAULT_CHANNELS](cohort, scan)
        return model.novelty(x, UNDIRECTED[0], leave_out=leave_out)

    maps = [HealthyMap(s.name, novelty(s, s.name), s.mask, s.affine) for s in cohort.reference]
    found = compare(maps, [(scan, novelty(scan)) for scan in (*newcomers, *patients)])
    torch.set_num_threads(1)
    log(f"{len(maps)} controls are measured")
    return {UNDIRECTED[0]: found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=PEOPLE, required=True)
    parser.add_argument(
        "--controls", type=int, nargs="+", metavar="N", help="only this: by how many controls"
    )
    parser.add_argument("--left-out", type=int, default=6)
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate and register")
    options = parser.parse_args()
    started = time.monotonic()

    def log(text: str) -> None:
        print(f"[{time.monotonic() - started:6.0f} s] {text}", flush=True)

    wanted = designs(options.stage, options.left_out, options.patients)
    if options.controls:
        wanted = [replace(wanted[-1], reference=number) for number in options.controls]
    masks = real_lesion_masks()
    cohorts = [Cohort(one, masks, options.jobs, options.cache) for one in wanted]
    if options.controls:
        first = max(options.controls)
        own = range(first, first + options.left_out)
        found = [measure_plain(cohort, cohort.controls(own), log) for cohort in cohorts]
    else:
        found = [measure(cohort, log) for cohort in cohorts]
    command = shlex.join(["python", "benchmarks/calibration.py", *sys.argv[1:]])
    minutes = f"{(time.monotonic() - started) / 60:.0f} minutes"
    if options.controls:
        name, text = "-controls", controls_markdown(wanted, found, options.stage, command, minutes)
    else:
        name, text = "", markdown(wanted, found, options.stage, command, minutes)
    write_section(HERE / "RESULTS.md", f"calibration-{options.stage}{name}", text)
    print(text)


if __name__ == "__main__":
    main()
