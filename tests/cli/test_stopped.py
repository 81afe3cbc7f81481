"""Commands that are stopped at work: nothing is left by half."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from qspace_nd.model.novelty_model import NoveltyModel
from tests.conftest import PROGRAM, Run, call_installed, tree_of, words_of

FIT_AGAIN = "fit healthy/*.nii.gz --force"


def test_force_overwrites_and_what_is_not_the_outputs_stays(folder: Path, call: Run) -> None:
    old = (folder / "novelty.nii.gz").read_bytes()
    (folder / "qspace-nd-model/notes.txt").write_text("mine")
    assert call(f"{FIT_AGAIN} --epochs 1 --seed 1", folder).status == 0
    assert call("map patient.nii.gz --force", folder).status == 0
    assert (folder / "novelty.nii.gz").read_bytes() != old
    assert (folder / "qspace-nd-model/notes.txt").read_text() == "mine"
    listed = json.loads((folder / "qspace-nd-model/model.json").read_text())["files"]
    there = {name for name in tree_of(folder / "qspace-nd-model") if "safetensors" in name}
    assert there == set(listed)  # nothing of the model that was replaced is left


@pytest.fixture
def training(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A `fit --force` that is at its training, which would take a long time."""

    process = subprocess.Popen(
        [PROGRAM, *words_of(FIT_AGAIN, folder)],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "healthy voxels of 3 subjects" in line:
            break
    time.sleep(0.5)
    yield process, folder
    process.kill()
    process.wait()
    process.stderr.close()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_fit_that_is_stopped_leaves_the_old_model_as_it_was(
    number: signal.Signals,
    status: int,
    training: tuple[subprocess.Popen[str], Path],
    prepared: Path,
) -> None:
    process, folder = training
    process.send_signal(number)
    assert process.wait(timeout=30) == status
    assert process.stderr is not None
    said = process.stderr.read()
    assert "Traceback" not in said
    assert ("Interrupted; no half-written file was left." in said) == (status == 130)
    left = tree_of(folder)
    if number == signal.SIGKILL:  # the lock's file may stay, which no process holds any more
        left.pop("qspace-nd-model/.model.lock")
    assert left == tree_of(prepared)
    NoveltyModel.load(folder / "qspace-nd-model")


def test_a_save_that_is_killed_at_any_moment_leaves_a_model(folder: Path) -> None:
    """A child is killed at its n-th write to the disk, for every n until it gets through."""
    code = """
        import os, signal, sys
        from qspace_nd.model.novelty_model import NoveltyModel

        model = NoveltyModel.load("qspace-nd-model")
        before = model.seed
        moments = 0
        while True:
            child = os.fork()
            if not child:
                left, written = moments, os.fsync
                def fsync(descriptor):
                    global left
                    if not left:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    written(descriptor)
                os.fsync = fsync
                model.seed = 7
                model.network_.load_state_dict(
                    {name: value * 1.5 for name, value in model.network_.state_dict().items()}
                )
                model.save("qspace-nd-model", force=True)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            seed = NoveltyModel.load("qspace-nd-model").seed
            if os.WIFEXITED(status):
                break
            assert os.WTERMSIG(status) == signal.SIGKILL
            assert seed == before, moments
            moments += 1
        assert seed == 7
        print(moments, "moments")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 5  # weights, a part of each of three subjects, the index
    left = [name for name in tree_of(folder / "qspace-nd-model") if Path(name).name[0] == "."]
    assert not left


def full_disk(size: int) -> Callable[[], None]:
    """Let the process write no file that is larger: what a full disk does at that point."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(
    ("line", "size"),
    [
        (
            "fit healthy/*.nii.gz --latents 16,4 --epochs 1 --seed 3 --force",
            1_000,
        ),  # at the weights
        (
            "fit healthy/*.nii.gz --latents 16,4 --epochs 1 --seed 3 --force",
            100_000,
        ),  # at the reference
        ("map patient.nii.gz --force", 4_000),
        ("eval --labels lesions.nii.gz", 10_000),
    ],
)
def test_a_full_disk_is_told_and_leaves_what_was_there(line: str, size: int, folder: Path) -> None:
    before = tree_of(folder)
    outcome = call_installed(f"{line} -q", folder, limit=full_disk(size))
    assert outcome.status == 1
    assert re.fullmatch(
        r"qspace-nd: .* could not be written \(.+\); what was there before is "
        r"unchanged\.\n",
        outcome.stderr.splitlines(keepends=True)[-1],  # after what training warns of
    )
    after = tree_of(folder)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if Path(name).name.startswith(".")]
    NoveltyModel.load(folder / "qspace-nd-model")
