"""That `--memory` is kept: the peak of whole processes, and what they find in little memory."""

from __future__ import annotations

import resource
import subprocess
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.system import memory
from qspace_nd.system.memory import GB
from tests.conftest import PROGRAM, Run

SCANS, SIDE, CHANNELS = 20, 48, 46  # 407 MB of signals

OVERHEAD = 0.05e9
"""Bytes of memory beyond the limit that are put up with: buffers of libraries, and blocks."""


def write_scan(path: Path, seed: int, side: int = SIDE) -> None:
    """A scan of plain channels that vary with a few numbers, and a mask of all its voxels."""
    random = np.random.default_rng(seed)
    mixed = np.random.default_rng(0).normal(size=(4, CHANNELS)).astype(np.float32)
    signal = random.normal(size=(side**3, 4)).astype(np.float32) @ mixed * 50 + 1000
    volumes = signal.reshape(side, side, side, CHANNELS).astype(np.int16)
    nib.save(nib.Nifti1Image(volumes, np.eye(4)), path)
    mask = np.ones((side,) * 3, np.uint8)
    nib.save(nib.Nifti1Image(mask, np.eye(4)), path.with_name(f"{path.stem}_mask.nii"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    (folder / "healthy").mkdir()
    for number in range(SCANS):
        write_scan(folder / "healthy" / f"control-{number:02}.nii", number)
    write_scan(folder / "patient.nii", 99, side=20)
    return folder


def peak_of(line: str, folder: Path) -> int:
    """The peak of the memory of `qspace-nd` that is not mapped of files, in bytes."""
    command = [str(PROGRAM), *line.split()]
    most = 0
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        statm = Path(f"/proc/{process.pid}/statm")
        while process.poll() is None:
            pages = statm.read_text().split()
            if pages:  # none of a process that has just ended
                most = max(most, (int(pages[1]) - int(pages[2])) * resource.getpagesize())
            time.sleep(0.002)
        assert process.returncode == 0, process.stderr and process.stderr.read()
    return most


def value_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_fit_and_map_keep_to_their_memory_and_map_finds_the_same(study: Path) -> None:
    fit = "fit healthy --no-template --no-calibrate --preset paper --epochs 1 -q"
    fit += " --model {0} --memory {1}"
    search = "map patient.nii --score input-distance --model 6 -o {0}.nii.gz --memory {1} -q"
    much, little = 6.0, 0.6
    for line in fit, search:
        peaks = [peak_of(line.format(f"{gb:g}", gb), study) for gb in (much, little)]
        assert peaks[1] < little * GB + OVERHEAD
        assert peaks[0] > little * GB + OVERHEAD  # so that the limit makes the difference
    np.testing.assert_allclose(
        value_of(study / "0.6.nii.gz"), value_of(study / "6.nii.gz"), rtol=1e-6
    )


# --- What is available


def test_a_limit_is_for_all_that_the_process_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "in_use", lambda: 3 * GB)
    assert memory.remaining(5 * GB) == 2 * GB
    assert memory.remaining(2 * GB) == 0


def test_without_a_limit_three_quarters_of_what_is_available_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 4 * GB)
    assert memory.remaining(None) == 3 * GB


def test_what_is_in_use_is_less_than_the_peak_and_what_is_available_more_than_nothing() -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 1e7 < memory.in_use() <= peak + 1e6
    assert memory.available() > 0


@pytest.mark.parametrize(
    ("given", "left"), [("2048", 2**31 - GB), ("0", 10 * GB), ("", 10 * GB), ("all", 10 * GB)]
)
def test_the_memory_of_a_slurm_job_is_a_limit(
    given: str, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_of_system", lambda: 10 * GB)
    monkeypatch.setattr(memory, "_GROUP_LIMITS", ())
    monkeypatch.setattr(memory, "in_use", lambda: GB)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", given)
    assert memory.available() == left


@pytest.mark.parametrize(("written", "left"), [("3000000000\n", 2 * GB), ("max\n", 10 * GB)])
def test_the_memory_of_a_container_is_a_limit(
    written: str, left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "memory.max").write_text(written)
    monkeypatch.setattr(memory, "_of_system", lambda: 10 * GB)
    monkeypatch.setattr(memory, "_GROUP_LIMITS", (tmp_path / "none", tmp_path / "memory.max"))
    monkeypatch.setattr(memory, "in_use", lambda: GB)
    monkeypatch.delenv("SLURM_MEM_PER_NODE", raising=False)
    assert memory.available() == left


def test_no_memory_is_wrong_usage(prepared: Path, call: Run) -> None:
    outcome = call("map patient.nii.gz -o map.nii.gz --memory 0", prepared)
    assert outcome.status == 2
    assert "Invalid value for '--memory'" in outcome.stderr
