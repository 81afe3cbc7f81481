"""Measure a search tree that memory does not hold: built on the disk, and searched from there.

    QSPACE_ND_DATA=... python benchmarks/paging.py

A process of its own builds the tree of many healthy latents and writes it, and another searches it
for a patient's voxels: in memory, on the disk, and on the disk within less memory than the tree
takes, which a control group of Linux holds it to (root is needed; left out without). What is found
must be the same to the bit.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from growth import LATENTS, NEIGHBOURS, drawn, encoded
from results import table, write_section

from qspace_nd.searching.tree import PointTree
from qspace_nd.system.scratch import ROWS, Room, Scratch

HERE = Path(__file__).parent
GROUPS = Path("/sys/fs/cgroup/memory")  # of the first version of control groups
POINTS, QUERIES = 48_000_000, 1_500_000
GB = 10**9


@contextmanager
def limited(limit: int | None) -> Iterator[list[str]]:
    """The start of a command line that holds what follows to `limit` bytes of memory."""
    if limit is None:
        yield []
        return
    group = GROUPS / f"paging-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(limit))
        yield ["bash", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "bash"]
    finally:
        group.rmdir()


def run(step: str, folder: Path, limit: int | None, threads: int) -> dict[str, Any]:
    """Do a step in a process of its own, within a limit; what it tells."""
    me = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    with limited(limit) as start:
        line = [*start, *me, "--jobs", str(threads)]
        told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    found: dict[str, Any] = json.loads(told)
    print(step, limit, found, flush=True)
    return found


def build(folder: Path, *, on_disk: bool) -> dict[str, Any]:
    """Build the tree of `points.npy`, and write it as arrays to be mapped."""
    points = np.load(folder / "points.npy", mmap_mode="r")
    PointTree(points[:100])  # compiled, or read from the disk
    start = time.perf_counter()
    with Scratch(folder) as scratch:
        room: Room = scratch.room if on_disk else np.zeros
        held = room(points.shape, np.float32)
        for first in range(0, len(points), ROWS):
            held[first : first + ROWS] = points[first : first + ROWS]
        arrays = PointTree(held, room).to_arrays()
        whole = hashlib.blake2b()
        for name, array in sorted(arrays.items()):
            np.save(folder / f"tree-{name}.npy", array)
            whole.update(array.reshape(-1).view(np.uint8).data)
    return {"seconds": time.perf_counter() - start, "hash": whole.hexdigest(), **_read()}


def search(folder: Path) -> dict[str, Any]:
    """Search the tree that was written for all `queries.npy`."""
    queries = np.load(folder / "queries.npy")
    number = len(np.load(folder / "points.npy", mmap_mode="r"))
    arrays = {
        path.stem.removeprefix("tree-"): np.load(path, mmap_mode="r").view(np.ndarray)
        for path in folder.glob("tree-*.npy")
    }
    tree = PointTree.from_arrays(arrays, number, LATENTS)
    PointTree(queries[:100]).distances(queries[:100], NEIGHBOURS)  # compiled, or read from the disk
    start = time.perf_counter()
    found = tree.distances(queries, NEIGHBOURS)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "hash": hashlib.blake2b(found.data).hexdigest(),
        **_read(),
    }


def _read() -> dict[str, float]:
    """Gigabytes that this process read from the disk."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {"read": int(dict(line.split(": ") for line in lines)["read_bytes"]) / GB}


def forget(folder: Path) -> None:
    """Let the system forget the files of a folder, so that they are read from the disk again."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def prepare(folder: Path, points: int, queries: int, jobs: int, cache: Path | None) -> None:
    """Write latents of healthy voxels, `points` of them, and of a patient's."""
    healthy, patient = encoded(points, jobs, cache)
    random = np.random.default_rng(0)
    file = np.lib.format.open_memmap(
        folder / "points.npy", "w+", np.float32, (points, healthy.mean.shape[1])
    )
    for first in range(0, points, ROWS):
        some = file[first : first + ROWS]
        some[:] = drawn(healthy, len(some), random)
    np.save(folder / "queries.npy", drawn(patient, queries, random))


def measure(folder: Path, threads: int, limits: list[int]) -> tuple[list[list[str]], bool]:
    """A row for each way to build and search; whether all found the same."""
    rows, hashes = [], set()
    ways: list[tuple[str, str, int | None]] = [
        ("in memory", "build in memory", None),
        ("on the disk", "build on the disk", None),
    ]
    ways += [
        (f"on the disk, within {limit / GB:g} GB", "build on the disk", limit) for limit in limits
    ]
    for name, step, limit in ways:
        built = run(step, folder, limit, threads)
        forget(folder)
        found = run("search", folder, limit, threads)
        forget(folder)
        hashes.add((built["hash"], found["hash"]))
        figures = (built["seconds"], found["seconds"], found["read"])
        rows.append([name, *(f"{one:.1f}" for one in figures)])
    return rows, len(hashes) == 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=2, help="threads; processes that simulate")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny; to see that it runs")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.jobs)
    if options.step:
        if options.step == "search":
            told = search(options.folder)
        else:
            told = build(options.folder, on_disk=options.step.endswith("disk"))
        print(json.dumps(told))
        return
    points, queries = (20_000, 1000) if options.quick else (POINTS, QUERIES)
    held = os.access(GROUPS, os.W_OK)
    limits = [2 * GB, GB] if held and not options.quick else []
    with tempfile.TemporaryDirectory(dir=options.output) as name:
        prepare(Path(name), points, queries, options.jobs, None if options.quick else options.cache)
        rows, same = measure(Path(name), options.jobs, limits)
        size = sum(path.stat().st_size for path in Path(name).glob("tree-*")) / GB
    command = shlex.join(["python", "benchmarks/paging.py", "--jobs", str(options.jobs)])
    without = "" if held else " (No limits: they take root, and control groups of version 1.)"
    text = (
        f"## A tree that memory does not hold\n\n`{command}`: the tree of {points:,} latents "
        f"(simulated signal on real people's heads), {size:.1f} GB, is built and written; then "
        f"{queries:,} voxels of a patient are searched for, {NEIGHBOURS} nearest, the files first "
        f"forgotten by the system.{without}\n\n"
        + table(["built and searched", "building, s", "search, s", "read for it, GB"], rows)
        + f"\n\nTrees and distances are equal to the bit: {'yes' if same else 'NO'}."
    )
    write_section(options.output / "RESULTS.md", "paging", text)


if __name__ == "__main__":
    main()
