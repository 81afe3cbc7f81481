"""Measure how the work grows with the healthy reference, and lay out what large ones would cost.

    QSPACE_ND_DATA=... python benchmarks/growth.py

Trees of 1, 4 and 16 million latents are built and searched: those of real people's heads
(simulated signal), each drawn again from its posterior until there are so many. What a reference of
any size costs is put together of that, of the bytes that are written for a voxel, and of the time
that a scan takes to be read. The table of docs/scale.md is written by this script.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from cohorts import Cohort, Design
from numpy.typing import NDArray
from results import table, write_section

from qspace_nd.gaussian import Gaussian
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, common_protocol, open_scans, read_scan
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.searching.tree import PointTree
from qspace_nd.simulation.cohort import simulate_cohort

HERE = Path(__file__).parent
SIZES = (1_000_000, 4_000_000, 16_000_000)
NEIGHBOURS = 10
CHANNELS, LATENTS = 46, 8
BUILDING = 20 * LATENTS  # bytes of memory a voxel, as measured of trees while they are built

VOXELS = 1_500_000  # of a scan
REFERENCES = {"20 scans": 20, "1,000 scans": 1000, "40,000 scans": 40_000}
NODES = (1, 16, 256)
CORES = 16  # of a node
BLOCKS = (1, 2, 4, 12)
AT_ONCE = 2**18  # voxels, where a reference is searched in blocks
THINNED = 100_000_000
BYTES = {
    "signals": 4 * CHANNELS,
    "latents": 8 * LATENTS,
    "place": 4 * (3 + 3),
    "tree": 4 * LATENTS + 8 + 4.3,
    "healthy map": 4.0,
}
"""What a model holds of a voxel."""


@dataclass(frozen=True)
class Measured:
    """Of trees of `SIZES` points: seconds to build, microseconds a query, on so many threads."""

    building: Sequence[float]
    query: Sequence[float]
    threads: int
    reading: float  # seconds a scan of `VOXELS`

    @property
    def growth(self) -> float:
        """The power of the number of points that the time of a query goes with."""
        steps = np.polyfit(np.log(SIZES[: len(self.query)]), np.log(self.query), 1)
        return float(steps[0])

    def query_at(self, voxels: float) -> float:
        """Core seconds of a query among so many voxels."""
        largest = SIZES[len(self.query) - 1]
        return self.threads * 1e-6 * self.query[-1] * (voxels / largest) ** max(self.growth, 0.0)

    def building_at(self, voxels: float) -> float:
        """Core seconds to build the tree: n log n."""
        largest = SIZES[len(self.building) - 1]
        each = self.threads * self.building[-1] / (largest * math.log(largest))
        return each * voxels * math.log(voxels)


Posteriors = Gaussian[NDArray[np.float32]]


def encoded(points: int, jobs: int, cache: Path | None) -> tuple[Posteriors, Posteriors]:
    """Posteriors of healthy voxels, of which `points` will be drawn, and of a patient's."""
    design = Design(801, reference=4, left_out=0, patients=1, people="development")
    if points < 1_000_000:
        design = Design(801, 8.0, reference=2, left_out=0, patients=1)
    cohort = Cohort(design, jobs=jobs, folder=cache)
    model = NoveltyModel().fit_parts([Healthy(one.name, one.x) for one in cohort.reference])
    (patient,) = cohort.patients()
    return model.encode(cohort.reference_rows()), model.encode(patient.x)


def drawn(q: Posteriors, number: int, random: np.random.Generator) -> NDArray[np.float32]:
    """So many latents of some voxels: (number, d)."""
    rows = random.integers(0, len(q.mean), number)
    noise = random.standard_normal((number, q.mean.shape[1]))
    return (q.mean[rows] + q.std[rows] * noise).astype(np.float32)


def measure(
    sizes: Sequence[int],
    points: NDArray[np.float32],
    queries: NDArray[np.float32],
    voxel_size: float,
) -> Measured:
    building, query = [], []
    for size in sizes:
        start = time.perf_counter()
        tree = PointTree(points[:size].copy())
        building.append(time.perf_counter() - start)
        tree.distances(queries[:256], NEIGHBOURS)
        start = time.perf_counter()
        tree.distances(queries, NEIGHBOURS)
        query.append(1e6 * (time.perf_counter() - start) / len(queries))
        print(size, f"{building[-1]:.1f} s, {query[-1]:.1f} µs a query", flush=True)
    return Measured(building, query, torch.get_num_threads(), _reading(voxel_size))


def blocks(points: NDArray[np.float32], queries: NDArray[np.float32]) -> list[list[str]]:
    """A row for each number of blocks: time of their searches over that of one tree.

    Each block searched by itself, and no farther than what was found in those before it; queries
    as many at once as where memory is scarce, and all for the one tree.
    """
    rows, alone = [], 0.0
    for number in BLOCKS:
        at_once = AT_ONCE if number > 1 else len(queries)
        trees = [PointTree(some.copy()) for some in np.array_split(points, number)]
        seconds = []
        for bounded in (False, True):
            found = np.full((len(queries), NEIGHBOURS), np.inf)
            for tree in trees:
                tree.distances(queries[:256], NEIGHBOURS)
            start = time.perf_counter()
            for tree in trees:
                for first in range(0, len(queries), at_once):
                    some = slice(first, first + at_once)
                    within = found[some, -1] if bounded else None
                    more = tree.distances(queries[some], NEIGHBOURS, within)
                    found[some] = np.sort(np.hstack([found[some], more]), axis=1)[:, :NEIGHBOURS]
            seconds.append(time.perf_counter() - start)
        alone = alone or seconds[0]
        rows.append([str(number), *(f"{one / alone:.2f}" for one in seconds)])
        print("blocks", rows[-1], flush=True)
    return rows


def _reading(voxel_size: float) -> float:
    """Seconds that a scan takes to be read into the model's channels, of `VOXELS` voxels."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        simulate_cohort(made, controls=1, patients=0, layout="flat", voxel_size=voxel_size)
        scans = open_scans([made / "healthy"], DEFAULT_OPTIONS)
        protocol = common_protocol(scans, DEFAULT_OPTIONS, "raw")
        start = time.perf_counter()
        voxels = read_scan(scans[0], protocol, DEFAULT_OPTIONS)
        return (time.perf_counter() - start) * VOXELS / len(voxels.values)


def costs(measured: Measured) -> str:
    rows = []
    for name, scans in REFERENCES.items():
        for kept in ("all", "100 million"):
            total = scans * VOXELS
            voxels = total if kept == "all" else min(total, THINNED)
            if kept != "all" and voxels == total:
                continue
            signals, tree = voxels * sum(BYTES.values()), voxels * BYTES["tree"]
            patients = [
                f"{max(VOXELS * measured.query_at(voxels) / CORES / nodes, 0.0):.2g}"
                for nodes in NODES
            ]
            rows.append(
                [
                    f"{name}, {kept}",
                    _bytes(signals),
                    _bytes(tree),
                    _bytes(BUILDING * voxels),
                    _time(measured.building_at(voxels) / CORES),
                    _time(scans * measured.reading),
                    " / ".join(patients),
                ]
            )
    header = ["reference", "model", "of it tree", "memory to build", "building", "reading"]
    return table([*header, "seconds a patient, by nodes"], rows)


def _bytes(number: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number >= size:
            return f"{number / size:,.3g} {unit}"
    return f"{number / 1e6:,.0f} MB"


def _time(seconds: float) -> str:
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.2g} {unit}"
    return f"{seconds:,.2g} s"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate; threads")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny; to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.jobs)
    sizes = (2000, 4000, 8000) if options.quick else SIZES
    cache = None if options.quick else options.cache
    healthy, patient = encoded(sizes[-1], options.jobs, cache)
    random = np.random.default_rng(0)
    points = drawn(healthy, sizes[-1], random)
    queries = drawn(patient, 1000 if options.quick else VOXELS, random)
    measured = measure(sizes, points, queries, 8.0 if options.quick else 2.0)
    apart = table(["blocks", "each by itself", "bounded"], blocks(points[: sizes[1]], queries))
    command = shlex.join(["python", "benchmarks/growth.py", "--jobs", str(options.jobs)])
    trees = table(
        ["points", "building, s", "µs a query"],
        [
            [f"{size:,}", f"{building:.1f}", f"{query:.1f}"]
            for size, building, query in zip(sizes, measured.building, measured.query, strict=True)
        ],
    )
    told = (
        f"A query's time goes with the {measured.growth:.2f}th power of the reference; a scan of "
        f"{VOXELS:,} voxels takes {measured.reading:.1f} s to be read."
    )
    text = (
        f"## Growth\n\n`{command}`, {measured.threads} threads: {NEIGHBOURS} nearest of "
        f"{LATENTS} latents (simulated signal on real people's heads).\n\n{trees}\n\n{told}\n\n"
        f"A reference of {sizes[1]:,} in blocks, as where memory holds no more: the time of all "
        f"searches over that of one tree.\n\n{apart}"
    )
    write_section(options.output / "RESULTS.md", "growth", text)
    docs = options.output if options.quick else HERE.parent / "docs"
    write_section(docs / "scale.md", "costs", costs(measured))


if __name__ == "__main__":
    main()
