"""What several test files share: doubles, tiny cohorts, a model of one, real scans, the shell."""

from __future__ import annotations

import glob
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.progress import SILENT, Task
from qspace_nd.simulation.cohort import Cohort, simulate_cohort
from qspace_nd.simulation.head import standard_table

PROGRAM = Path(sys.executable).with_name("qspace-nd")
MODEL = Path("qspace-nd-model")
PATIENT, NOVELTY, LABELS = Path("patient.nii.gz"), Path("novelty.nii.gz"), Path("lesions.nii.gz")
CONTROLS = [Path(f"healthy/control-0{number}.nii.gz") for number in (1, 2, 3)]
"""What the prepared folder holds."""


# --- What may be absent


def of_extra(module: str) -> Any:
    """A module that the extra `cluster` brings; without it, the test is skipped."""
    return pytest.importorskip(module, reason=f"needs {module}, of the extra cluster")


# --- Doubles


class Heard(type(SILENT)):  # type: ignore[misc]
    """A listener that remembers what work it was told of: name, steps, notes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.steps: list[int] = []
        self.notes: list[str] = []

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        self.names.append(name)
        self.steps.append(0)
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps[-1] += steps
        self.notes.append(note)


def voxels(rows: int = 300, channels: int = 5, seed: int = 0) -> np.ndarray:
    """Healthy voxels (n, C) around 1, of two dimensions and a little noise."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, 2)) @ rng.normal(size=(2, channels))
    return (1 + 0.1 * signal + 0.02 * rng.normal(size=(rows, channels))).astype(np.float32)


# --- The command line


@dataclass(frozen=True)
class Outcome:
    """What became of a command line."""

    status: int
    stdout: str
    stderr: str


Run = Callable[..., Outcome]


def words_of(line: str, folder: Path) -> list[str]:
    """Split a line as a shell in `folder` does: quotes are taken off, patterns replaced."""
    words = shlex.split(line)
    return [
        name
        for word in words
        for name in (sorted(glob.glob(word, root_dir=folder)) or [word])  # noqa: PTH207
    ]


def call_installed(
    line: str, folder: Path, *, limit: Callable[[], None] | None = None, timeout: float = 120
) -> Outcome:
    """Run the installed `qspace-nd` with the words of `line` in `folder`."""
    done = subprocess.run(
        [PROGRAM, *words_of(line, folder)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
        preexec_fn=limit,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def call_here(line: str, folder: Path) -> int:
    """Run what the installed `qspace-nd` calls, in this process: no time goes into imports."""
    (script,) = metadata.entry_points(group="console_scripts", name="qspace-nd")
    main = script.load()
    words, environment = sys.argv, dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    sys.argv = ["qspace-nd", *words_of(line, folder)]
    try:
        with chdir(folder), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = words
        signal.signal(signal.SIGTERM, handler)
        os.environ.clear()
        os.environ.update(environment)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process, and hear what it says."""

    def run(line: str, folder: Path) -> Outcome:
        capfd.readouterr()
        return Outcome(call_here(line, folder), *capfd.readouterr())

    return run


def tree_of(folder: Path) -> dict[str, tuple[int, str] | None]:
    """Size and hash of every file below `folder`, None for a folder."""
    return {
        str(path.relative_to(folder)): None
        if path.is_dir()
        else (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
    }


# --- Cohorts


def tiny_cohort(folder: Path, **settings: Any) -> Cohort:
    """Simulate scans that are good for nothing but to be read quickly.

    Voxels of 8 mm, 2 b=0 volumes and 12 directions; `settings` as `simulate_cohort` takes them.
    """
    table = standard_table(unweighted=2, directions=12)
    return simulate_cohort(folder, **{"voxel_size": 8, "table": table} | settings)


def as_stack(scan: Path, to: Path) -> None:
    """Write a simulated scan as three contrasts without b-values, with its mask beside it."""
    name = scan.name.removesuffix(".nii.gz")
    b0 = np.loadtxt(scan.with_name(f"{name}.bval")) == 0
    image = nib.load(scan)
    volumes = image.get_fdata(dtype=np.float32)
    weighted = volumes[..., ~b0]
    contrasts = [volumes[..., b0].mean(-1), weighted.mean(-1), weighted[..., 0]]
    to.parent.mkdir(exist_ok=True, parents=True)
    nib.save(nib.Nifti1Image(np.stack(contrasts, -1), image.affine), to)
    mask = to.with_name(to.name.replace(".nii.gz", "_mask.nii.gz"))
    shutil.copy(scan.with_name(f"{name}_mask.nii.gz"), mask)


def register_quickly(patch: pytest.MonkeyPatch) -> None:
    """Register badly and soon, and trust it: how well is tested where registration is."""
    patch.setattr("qspace_nd.registration.alignment._ITERATIONS", (3, 1))
    patch.setattr("qspace_nd.registration.places._ITERATIONS", [2, 1])
    patch.setattr("qspace_nd.registration.guard.Guard.limit", 2.0)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nothing may be written to: a tiny flat cohort, its model, the patient's map."""
    from qspace_nd.model.novelty_model import NoveltyModel
    from qspace_nd.workflows.fit import fit_scans
    from qspace_nd.workflows.map import map_scans

    folder = tmp_path_factory.mktemp("prepared")
    tiny_cohort(folder, controls=3, layout="flat")
    with chdir(folder):
        fit_scans(CONTROLS, NoveltyModel(epochs=1), MODEL)
        map_scans([PATIENT], MODEL, NOVELTY)
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder, for a test to change."""
    copy = tmp_path / "study"
    shutil.copytree(prepared, copy)
    return copy


@pytest.fixture
def inside(folder: Path) -> Iterator[Path]:
    """The same, and the test works in it."""
    with chdir(folder):
        yield folder


@pytest.fixture(scope="session")
def real_scans() -> Path:
    """The folder of real scans that QSPACE_ND_DATA names."""
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        pytest.skip("QSPACE_ND_DATA names no folder of real scans")
    return Path(named)


@pytest.fixture(scope="session")
def bids_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BIDS cohort that nothing may be written to: two controls and two patients."""
    cohort = tmp_path_factory.mktemp("bids") / "cohort"
    tiny_cohort(cohort, controls=2, patients=2)
    return cohort
