"""Measuring time and memory, and saying on what machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numba
import numpy as np
import scipy
import sklearn
import torch

# A process's peak begins with the memory of the process that starts it: here that is a small one,
# which prints the peak when it has run the command.
_ALONE = [
    sys.executable,
    "-c",
    "import resource, subprocess, sys\n"
    "status = subprocess.call(sys.argv[1:])\n"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)\n"
    "sys.exit(status)",
]


@dataclass(frozen=True)
class Timed:
    """The least time of several runs, in seconds, and what the last one returned."""

    seconds: float
    result: Any


def in_turn(runs: Sequence[Callable[[], Any]], rounds: int = 3) -> list[Timed]:
    """Time several things in turn, `rounds` times each, so that what else runs hits them alike."""
    best, results = [np.inf] * len(runs), [None] * len(runs)
    for _ in range(rounds):
        for number, run in enumerate(runs):
            start = time.perf_counter()
            results[number] = run()
            best[number] = min(best[number], time.perf_counter() - start)
    return [Timed(*one) for one in zip(best, results, strict=True)]


def peak_memory(code: str, *arguments: object) -> int:
    """Bytes by which the peak of a process's memory grows while `code` runs.

    The code is Python and sets `before`, by `peak()`, when all is loaded.
    """
    script = (
        "import resource, sys\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"{code}\nprint(peak() - before)"
    )
    command = [*_ALONE, sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-2]) * 1024


@dataclass(frozen=True)
class Finished:
    """A command that has run: its output, its time in seconds and its peak memory in bytes."""

    log: str
    seconds: float
    peak: int


def run_command(command: Sequence[str | Path], folder: Path) -> Finished:
    """Run a command in a folder."""
    start = time.perf_counter()
    with subprocess.Popen(
        [*_ALONE, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            print(line, end="", flush=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed.")
    peak = int(lines.pop())
    return Finished("".join(lines), time.perf_counter() - start, peak)


def machine() -> str:
    """The processor, its cores, and the versions of what is measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _read(Path("/proc/cpuinfo")).splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    load = os.getloadavg()[0]
    return (
        f"{model}, {os.cpu_count()} cores, {torch.get_num_threads()} used (load at the end: "
        f"{load:.1f}); FAISS {faiss.__version__}, Numba "
        f"{numba.__version__}, SciPy {scipy.__version__}, PyTorch "
        f"{torch.__version__}, scikit-learn {sklearn.__version__}"
    )


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
