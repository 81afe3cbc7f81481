"""Map by parts and by workers: are the files those of one process, and how long does it take?

    python benchmarks/workers.py
    python benchmarks/workers.py --network     as root, with `ip`: links and programs that are lost
    python benchmarks/workers.py --quick       to see that it runs

The demo's scans are mapped by its model, in one process and in other ways, and all files that are
left are compared by their hashes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from interruptions import contents, unlike
from results import table, write_section
from timing import machine

HERE = Path(__file__).parent
PROGRAM = [sys.executable, "-m", "qspace_nd"]
MAP = "map --bids cohort --model model --device cpu"
ONE = ["--nthreads 2"]
WAYS = [
    ["--nthreads 1 --part 1/2", "--nthreads 1 --part 2/2"],
    *([f"--cluster local:{n} --nthreads {threads}"] for n in (1, 2, 3) for threads in (1, 2)),
]


@dataclass(frozen=True)
class Study:
    """A cohort in BIDS and a model of its healthy people, in `folder`; its maps go there too."""

    folder: Path

    @staticmethod
    def make(folder: Path, *, quick: bool) -> Study:
        """Simulate and fit: what the demo does, or hardly anything."""
        controls, patients, size, epochs = (2, 1, 8, "--epochs 1") if quick else (6, 2, 3, "")
        people = f"--controls {controls} --patients {patients} --voxel-size {size}"
        study = Study(folder)
        for line in (
            f"simulate cohort {people}",
            f"fit --bids cohort --where group=control --model model --no-template {epochs}",
        ):
            ended = subprocess.run([*PROGRAM, *line.split(), "--quiet"], cwd=folder)
            if ended.returncode:
                raise SystemExit(f"{line} failed.")
        return study

    def start(self, options: str, name: str) -> subprocess.Popen[bytes]:
        """Begin to map into the folder `name`; what is said goes to the file `name`.log."""
        line = [*PROGRAM, *f"{MAP} -o {name} {options}".split()]
        with self.log(name).open("ab") as log:
            return subprocess.Popen(line, cwd=self.folder, stdout=log, stderr=log)

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def mapped(self, ways: Sequence[str], name: str) -> float:
        """Map by lines that run side by side; how many seconds they take."""
        begun = time.perf_counter()
        running = [self.start(options, name) for options in ways]
        statuses = [process.wait() for process in running]
        if any(statuses):
            raise SystemExit(f"{MAP} {ways} failed: {self.log(name).read_text()}")
        return time.perf_counter() - begun

    def unlike(self, name: str, other: str) -> str:
        """Which files of two folders differ, the model's among them."""
        return unlike(contents(self.folder / name), contents(self.folder / other))


def ways(study: Study, chosen: Sequence[Sequence[str]]) -> tuple[str, bool]:
    """Map by one process, and in each of the ways; a table, and whether all files are equal."""
    before = os.getloadavg()[0]
    model = contents(study.folder / "model")
    alone = study.mapped(ONE, "one")
    rows, differing = [[f"`{ONE[0]}`", f"{alone:.1f}", "1", "-"]], []
    for number, way in enumerate(chosen):
        seconds = study.mapped(way, f"way-{number}")
        differing.append(study.unlike(f"way-{number}", "one"))
        said = " and ".join(f"`{options}`" for options in way)
        rows.append([said, f"{seconds:.1f}", f"{seconds / alone:.2f}", differing[-1] or "none"])
    differing.append(unlike(contents(study.folder / "model"), model))
    files = [one for one in contents(study.folder / "one").values() if one != "folder"]
    scans = len(list((study.folder / "cohort").rglob("*_dwi.nii.gz")))
    text = (
        "## Workers on one machine\n\n"
        f"`python benchmarks/workers.py`: the demo's {scans} scans (simulated) by its model, from "
        f"start to end of `qspace-nd {MAP}` with the options of each line, and which of the "
        f"{len(files)} files (images, sidecars, tables, pictures) differ from one process's. "
        f"{machine()}; load of the minute before the first: {before:.1f}.\n\n"
        f"{table(['', 's', 'over one process', 'files that differ'], rows)}\n"
    )
    return text, not any(differing)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", action="store_true", help="lose links and programs instead")
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    options = parser.parse_args()
    if options.network:
        import lost_workers

        lost_workers.require()
    with TemporaryDirectory(prefix="workers-") as folder:
        study = Study.make(Path(folder), quick=options.quick)
        if options.network:
            text, good = lost_workers.losses(study)
        else:
            text, good = ways(study, [WAYS[0], WAYS[3]] if options.quick else WAYS)
    print(f"\n{text}")
    if not options.quick:
        write_section(HERE / "RESULTS.md", f"workers{'-lost' * options.network}", text)
    return not good


if __name__ == "__main__":
    sys.exit(main())
