"""Commands of qspace-nd in forked children of a warm process: quick, and none harms another.

A child is a process like any other: it may crash, hang, leak or be killed. Only what a command does
before its work, loading libraries, is not seen in it.
"""

from __future__ import annotations

import gc
import json
import math
import os
import re
import resource
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

CONTROLS = "healthy/control-01.nii.gz healthy/control-02.nii.gz healthy/control-03.nii.gz"
CRASHED = 70

PYTHON = re.compile(
    r"Traceback|\b[A-Z]\w+(Error|Exception|Warning)\b|<(class|function|module|_io)\b|NoneType"
    r"|0x[0-9a-f]{6}|takes? \d+ positional|has no attribute"
)
"""What Python says, but no sentence written for a user."""

_WALL = 12

TOO_LONG = (-signal.SIGALRM, -signal.SIGXCPU)
"""How a command ends that takes too long."""


@dataclass(frozen=True)
class Outcome:
    """What became of a command.

    Attributes
    ----------
    status : int
        Of its exit; the negative number of the signal that ended it.
    text : str
        What it said on both streams.
    peak : int
        The most bytes that it had in memory, with what its parent had.
    """

    status: int
    text: str
    peak: int

    @property
    def warnings(self) -> set[str]:
        """What it warned of, any number as #."""
        lines = (line for line in self.text.splitlines() if re.search("warning|problem:", line, 2))
        return {re.sub(r"\d[\d,.]*", "#", line.strip()) for line in lines}


def warm_up(folder: Path) -> None:
    """Make the tiny study in `folder`, and load in this process all that a command needs.

    Voxels of 8 mm, 2 b=0 volumes and 16 directions, training for an epoch: `healthy/`, a patient
    with lesions, a model, a map; and as a BIDS dataset in `bids/`, with maps in `maps/`.
    """
    # A child may use neither the threads of its parent nor its GPU. Libraries read these when they
    # are loaded.
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.environ |= {**dict.fromkeys(threads, "1"), "CUDA_VISIBLE_DEVICES": ""}
    threadpool_limits(1)
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))  # what an optimiser loads takes seconds;
    weight.grad = torch.zeros(1)  # a process that went backward itself cannot have children do so
    torch.optim.AdamW([weight]).step()
    (folder / "home").mkdir(parents=True)
    for line in ("simulate . --controls 0 --patients 0", "map none", "check none", "eval"):
        _here(line.split(), folder)  # refused, when all is loaded
    _write_table(folder)
    size = "--voxel-size 8 --bval table.bval --bvec table.bvec -q"
    together(
        folder,
        f"simulate . --layout flat --controls 4 {size}",
        f"simulate bids --controls 2 --patients 1 {size}",
        f"fit {CONTROLS} --epochs 1 -q",
        "map patient.nii.gz -o novelty.nii.gz -q",
        "map --bids bids --where group=patient -o maps -q",
    )
    loading = folder.with_name("loading")
    shutil.copytree(folder, loading)
    for line in (
        "map patient.nii.gz -f -q",
        "check --bids bids --where group=patient -q",
        "fit none",
        "eval --labels lesions.nii.gz -q",
    ):
        _here(line.split(), loading)
    shutil.rmtree(loading)
    gc.collect()
    gc.freeze()  # what children need not copy


def _write_table(folder: Path) -> None:
    along = (np.arange(16) + 0.5) / 16  # a spiral on the half sphere
    turn, flat = np.pi * (1 + 5**0.5) * np.arange(16), np.sqrt(1 - (1 - along) ** 2)
    vectors = np.stack([flat * np.cos(turn), flat * np.sin(turn), 1 - along])
    vectors = np.insert(vectors, [0, 8], 0.0, axis=1)
    bvals = np.insert(np.full(16, 1200), [0, 8], 0)
    (folder / "table.bval").write_text(" ".join(map(str, bvals)) + "\n")
    np.savetxt(folder / "table.bvec", vectors, fmt="%.6f")


def _here(words: Sequence[str], folder: Path) -> None:
    """Run a command in this process, silently."""
    from qspace_nd.cli import main

    kept, streams = (sys.argv, Path.cwd(), signal.getsignal(signal.SIGTERM)), [os.dup(1), os.dup(2)]
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        sys.argv = ["qspace-nd", *words]
        os.chdir(folder)
        os.dup2(null, 1), os.dup2(null, 2)
        main()
    except SystemExit:
        pass
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os.dup2(streams[0], 1), os.dup2(streams[1], 2)
        for one in (*streams, null):
            os.close(one)
        sys.argv = kept[0]
        os.chdir(kept[1])
        signal.signal(signal.SIGTERM, kept[2])


def start(
    words: Sequence[str],
    folder: Path,
    log: Path,
    *,
    before: Callable[[], object] = int,
    seconds: int = 60,
    room: int = 4 << 30,
) -> int:
    """Run a command in a child, in `folder`; return the child's number.

    Parameters
    ----------
    words : sequence of str
        The command line, without the program's name.
    folder, log : Path
        Where it runs, and where what it says goes.
    before : callable
        Called in the child, before the command.
    seconds : int
        Of a processor, after which a signal ends it; or `_WALL` times as many on the wall, as one
        that waits takes no processor, and one on a busy machine has it rarely.
    room : int
        Bytes that it may ask for beyond those of its parent.
    """
    child = os.fork()
    if child:
        return child
    status = CRASHED
    try:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(stream, 1), os.dup2(stream, 2)
        os.environ |= {"HOME": str(folder / "home"), "TERM": "dumb", "COLUMNS": "100"}
        os.chdir(folder)
        signal.alarm(_WALL * seconds)
        spent = math.ceil(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, spent + seconds + 1))
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + room,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = _run(words, before)
    finally:
        os._exit(status)


def _run(words: Sequence[str], before: Callable[[], object]) -> int:
    from qspace_nd.cli import main

    try:
        before()
        sys.argv = ["qspace-nd", *words]
        main()
    except SystemExit as ended:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass
        return ended.code if isinstance(ended.code, int) else CRASHED
    except BaseException:
        sys.stderr = os.fdopen(os.dup(2), "w", errors="replace")
        traceback.print_exc()
        sys.stderr.flush()
    return CRASHED


def wait_for(child: int, log: Path) -> Outcome:
    """Wait until a child has ended."""
    _, ended, used = os.wait4(child, 0)
    return outcome(ended, used, log)


def outcome(ended: int, used: resource.struct_rusage, log: Path) -> Outcome:
    """What became of a child, by what `os.wait4` gave."""
    text = log.read_text(errors="replace") if log.exists() else ""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)  # colours
    return Outcome(os.waitstatus_to_exitcode(ended), text, used.ru_maxrss * 1024)


def together(folder: Path, *lines: str) -> None:
    """Run lines one after another, each in a child; all must end well."""
    for line in lines:
        log = folder.with_name(f"{folder.name}.log")
        done = wait_for(start(shlex.split(line), folder, log), log)
        if done.status:
            raise RuntimeError(f"qspace-nd {line}: exit {done.status}\n{done.text}")


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Size, time and number of every file below `folder` by its name: another where it changed."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = os.path.join(place, name)  # noqa: PTH118  names that are no text too
            known = os.lstat(path)
            changed = known.st_mtime_ns if name in names else 0
            found[os.path.relpath(path, folder)] = (known.st_size * bool(changed), changed)
    return found


def faults(folder: Path, names: Sequence[str]) -> list[str]:
    """Which of the files that a command wrote are no whole ones; a sentence each."""
    wrong = []
    for name in names:
        path = folder / name
        if any(part.startswith(".") and part != ".bidsignore" for part in Path(name).parts):
            wrong.append(f"hidden {plain(name)} is left")
        elif path.is_file():
            try:
                _read(path)
            except Exception as error:
                wrong.append(f"{plain(name)} cannot be read ({type(error).__name__}: {error})")
    return wrong


def plain(name: str) -> str:
    return re.sub(r"[0-9a-f]{8,}", "#", name)


def _read(path: Path) -> None:
    """Read a file, by its kind, and raise whatever a reader of it raises."""
    import nibabel as nib
    from safetensors.numpy import load_file

    if not path.stat().st_size:
        raise EOFError("empty")
    if path.name.endswith((".nii", ".nii.gz")):
        if not np.isfinite(np.asarray(nib.load(path).dataobj)).all():
            raise ValueError("NaN or infinity")
    elif path.suffix == ".json":
        content = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
        for name, size in (content.get("files", {}) if path.name == "model.json" else {}).items():
            if (path.parent / name).stat().st_size != size:
                raise ValueError(f"{plain(name)} has another size")
    elif path.suffix == ".npy":
        if not np.isfinite(np.load(path)).all():
            raise ValueError("NaN or infinity")
    elif path.suffix == ".safetensors":
        load_file(path)
    elif path.suffix == ".png" and not path.read_bytes().endswith(b"IEND\xaeB`\x82"):
        raise EOFError("no end")


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
