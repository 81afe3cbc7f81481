"""What several test files share: a tiny cohort, a model of it, real scans, the command line."""

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
from contextlib import chdir
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from qspace_nd.simulation.cohort import simulate_cohort
from qspace_nd.simulation.head import standard_table

PROGRAM = Path(sys.executable).with_name("qspace-nd")


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


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run what the installed `qspace-nd` calls, in this process: no time goes into imports."""
    (script,) = metadata.entry_points(group="console_scripts", name="qspace-nd")
    main = script.load()
    environment, handler = dict(os.environ), signal.getsignal(signal.SIGTERM)

    def run(line: str, folder: Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["qspace-nd", *words_of(line, folder)])
        capfd.readouterr()
        with chdir(folder), pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, handler)
    os.environ.clear()
    os.environ.update(environment)


def tree_of(folder: Path) -> dict[str, tuple[int, str] | None]:
    """Size and hash of every file below `folder`, None for a folder."""
    return {
        str(path.relative_to(folder)): None
        if path.is_dir()
        else (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that nothing may be written to: a flat cohort, its model, the patient's map.

    Voxels of 8 mm, 2 b=0 volumes and 12 directions, training for an epoch: good for nothing else
    than to be read quickly.
    """
    from qspace_nd.model.novelty_model import NoveltyModel
    from qspace_nd.workflows.fit import fit_scans, map_scans

    folder = tmp_path_factory.mktemp("prepared")
    table = standard_table(unweighted=2, directions=12)
    simulate_cohort(folder, controls=3, layout="flat", voxel_size=8, table=table)
    with chdir(folder):
        model = NoveltyModel(epochs=1)
        fit_scans(sorted(Path("healthy").glob("*.nii.gz")), model, Path("qspace-nd-model"))
        scan, novelty = Path("patient.nii.gz"), Path("novelty.nii.gz")
        map_scans([scan], Path("qspace-nd-model"), novelty, scores=["latent-distance"])
    return folder


@pytest.fixture
def folder(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the prepared folder, for a test to change."""
    copy = tmp_path / "study"
    shutil.copytree(prepared, copy)
    return copy


@pytest.fixture(scope="session")
def real_scans() -> Path:
    """The folder of real scans that QSPACE_ND_DATA names."""
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        pytest.skip("QSPACE_ND_DATA names no folder of real scans")
    return Path(named)


@pytest.fixture(scope="session")
def bids_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BIDS cohort that nothing may be written to: two controls and two patients, as small."""
    cohort = tmp_path_factory.mktemp("bids") / "cohort"
    table = standard_table(unweighted=2, directions=12)
    simulate_cohort(cohort, controls=2, patients=2, voxel_size=8, table=table)
    return cohort
