"""The commands as they are typed: what they write, say and return, also when they are stopped."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.cli import COMMANDS
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.recipes import IMAGE_PRESETS, PRESETS
from tests.conftest import PROGRAM, Run, call_installed, tree_of

README = Path(__file__).parents[2] / "README.md"
CONTROL_CHARACTERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]")
PATIENTS = ("sub-patient01", "sub-patient02")
FIT_AGAIN = "fit healthy/*.nii.gz --force"


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Type a line in a shell that finds `qspace-nd`."""
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- The commands do what they are for


def test_the_three_lines_work_as_they_stand_on_a_simulated_flat_cohort(tmp_path: Path) -> None:
    made = shell("qspace-nd simulate . --layout flat --controls 2 --voxel-size 10", tmp_path)
    assert made.returncode == 0, made.stderr
    for line in (
        "qspace-nd fit healthy/*.nii.gz",
        "qspace-nd map patient.nii.gz -o novelty.nii.gz",
        "qspace-nd eval --labels lesions.nii.gz",
    ):
        done = shell(line, tmp_path)
        assert done.returncode == 0, done.stderr
        assert not CONTROL_CHARACTERS.search(done.stdout + done.stderr)
    evaluation = tmp_path / "qspace-nd-eval"
    assert {path.name for path in evaluation.iterdir()} == {
        "eval.json",
        "eval.tsv",
        "roc.png",
        "histograms.png",
        "slices_patient.png",
    }
    assert "AUC" in done.stdout
    scan, novelty = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("patient", "novelty"))
    assert novelty.shape == scan.shape[:3]
    assert novelty.get_data_dtype() == np.float32
    np.testing.assert_array_equal(novelty.affine, scan.affine)


def test_a_bids_cohort_goes_through_the_commands_by_its_folders(
    bids_cohort: Path, tmp_path: Path, call: Run
) -> None:
    (tmp_path / "cohort").symlink_to(bids_cohort)
    masks = "cohort/derivatives/masks"
    regions = [f"--within {masks}/{p}/dwi/{p}_label-WM_mask.nii.gz" for p in PATIENTS]
    for line in (
        "fit cohort/sub-control* --epochs 1",
        "map cohort/sub-patient* -o maps --score latent-distance --score input-distance",
        f"eval maps --labels {masks} {' '.join(regions)}",
    ):
        outcome = call(line, tmp_path)
        assert outcome.status == 0, outcome.stderr
    dwi = tmp_path / "maps/sub-patient01/dwi"
    assert {path.name for path in dwi.iterdir()} == {
        *(f"sub-patient01_desc-brain_mask.{ending}" for ending in ("nii.gz", "json")),
        *(
            f"sub-patient01_model-vae_param-{score}_dwimap.{ending}"
            for score in ("latentDistance", "inputDistance")
            for ending in ("nii.gz", "json")
        ),
    }
    assert json.loads((tmp_path / "maps/dataset_description.json").read_text())["DatasetType"] == (
        "derivative"
    )
    table = (tmp_path / "qspace-nd-eval/eval.tsv").read_text().splitlines()
    assert len(table) == 1 + 2 * 2 * 2  # patients, scores, regions


def test_a_healthy_scan_is_recognised_and_its_subject_left_out(folder: Path, call: Run) -> None:
    line = "map healthy/control-02.nii.gz -o control.nii.gz --score input-distance"
    outcome = call(line, folder)
    assert outcome.status == 0
    assert "is one of the healthy scans of the model" in outcome.stderr
    novelty = nib.load(folder / "control.nii.gz").get_fdata()
    mask = nib.load(folder / "control_mask.nii.gz").get_fdata() > 0
    assert (novelty[mask] > 0).all()
    assert json.loads((folder / "control.json").read_text())["LeftOut"] == "control-02"


def test_simulate_takes_the_gradients_that_are_named(folder: Path, call: Run) -> None:
    files = "--bval patient.bval --bvec patient.bvec"
    outcome = call(
        f"simulate other --layout flat --controls 1 --patients 0 --voxel-size 8 {files}", folder
    )
    assert outcome.status == 0, outcome.stderr
    for ending in ("bval", "bvec"):
        np.testing.assert_allclose(
            np.loadtxt(folder / f"other/healthy/control-01.{ending}"),
            np.loadtxt(folder / f"patient.{ending}"),
            atol=2e-6,
        )
    assert call("simulate another --bval patient.bval", folder).status == 2


@pytest.mark.parametrize("threads", ["--nthreads 1", "--nthreads 2"])
def test_a_model_and_its_map_do_not_depend_on_the_threads(threads: str, folder: Path) -> None:
    for line in (
        f"fit healthy/*.nii.gz --epochs 1 --model new-model {threads}",
        f"map patient.nii.gz --model new-model -o map.nii.gz {threads}",
    ):
        assert call_installed(line, folder).status == 0
    for new, old in (("map.nii.gz", "novelty.nii.gz"), ("map_mask.nii.gz", "novelty_mask.nii.gz")):
        assert (folder / new).read_bytes() == (folder / old).read_bytes()


# --- Help


def test_help_comes_in_under_a_third_of_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([PROGRAM, "--help"], capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.3


def test_help_imports_neither_torch_nor_dipy() -> None:
    code = """
        import sys
        from qspace_nd.cli import main
        for line in (["-h"], *([name, "-h"] for name in sys.argv[1].split())):
            sys.argv = ["qspace-nd", *line]
            try:
                main()
            except SystemExit as ended:
                assert ended.code == 0
        assert not {"torch", "dipy", "nibabel", "numba", "scipy", "matplotlib"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), " ".join(COMMANDS)], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example(command: str, tmp_path: Path, call: Run) -> None:
    for flag in ("-h", "--help"):
        outcome = call(f"{command} {flag}", tmp_path)
        assert outcome.status == 0
        assert f"Example:  qspace-nd {command}" in outcome.stdout
        for option in ("-q,", "-v,", "-f, --force", "--nthreads", "--device", "--seed"):
            assert option in outcome.stdout


def test_the_help_of_the_group_lists_every_command(tmp_path: Path, call: Run) -> None:
    outcome = call("--help", tmp_path)
    assert outcome.status == 0
    assert all(name in outcome.stdout for name in COMMANDS)


# --- What is said, and the exit status


@pytest.mark.parametrize(
    ("given", "tried"),
    [("", {"--kl-weight", "--neighbours"}), ("--kl-weight 0.1", {"--neighbours"})],
)
def test_tuning_tries_what_is_not_given_and_keeps_the_best(
    given: str, tried: set[str], folder: Path, call: Run
) -> None:
    outcome = call(
        f"fit healthy/*.nii.gz --tune --latents 16,4 {given} --epochs 1 --model tuned", folder
    )
    assert outcome.status == 0, outcome.stderr
    pattern = r"^  0\.\d{4}  (--.*?)(?:  \(dead latents: \d\))?$"
    trials = re.findall(pattern, outcome.stderr, re.MULTILINE)
    assert {word for trial in trials for word in trial.split() if word[:2] == "--"} == tried
    assert len(trials) == (9 if "--kl-weight" in tried else 3)
    settings = json.loads((folder / "tuned" / "model.json").read_text())["settings"]
    best = dict(setting.lstrip("-").split() for setting in trials[0].split(", "))
    assert {key: str(settings[key.replace("-", "_")]) for key in best} == best


def test_the_log_without_a_terminal_is_plain_text(folder: Path) -> None:
    outcome = call_installed(
        "fit healthy/*.nii.gz --latents 16,4 --epochs 60 --model new-model", folder
    )
    assert outcome.status == 0
    assert outcome.stdout == ""
    assert not CONTROL_CHARACTERS.search(outcome.stderr)
    assert re.search(r"^Training: done in .*validation .*latents alive", outcome.stderr, re.M)
    assert "control-01_mask.nii.gz, control-02_mask.nii.gz" in outcome.stderr


def test_quiet_commands_say_nothing(folder: Path, call: Run) -> None:
    for line in (
        "fit healthy/*.nii.gz --latents 16,4 --epochs 60 --model new-model",
        "map patient.nii.gz -o map.nii.gz --model new-model",
        "simulate other --layout flat --controls 1 --patients 0 --voxel-size 10",
    ):
        outcome = call(f"{line} -q", folder)
        told = [one for one in outcome.stderr.splitlines() if not one.startswith("Warning: ")]
        assert (outcome.status, outcome.stdout, told) == (0, "", [])


def test_a_quiet_eval_prints_its_table_alone(folder: Path, call: Run) -> None:
    outcome = call("eval --labels lesions.nii.gz -q", folder)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "latent-distance" in outcome.stdout


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit", "Missing argument 'SCANS...'"),
        ("eval", "Missing option '--labels'"),
        ("mapp patient.nii.gz", "No such command 'mapp'"),
        ("fit healthy --epochs 0", "Invalid value for '--epochs'"),
        ("fit healthy --latents 12", "12 latents need all widths, as in 64,32,16,12"),
        ("map patient.nii.gz --device gpu", "Invalid value for '--device'"),
    ],
)
def test_wrong_usage_exits_with_2(line: str, says: str, prepared: Path, call: Run) -> None:
    outcome = call(line, prepared)
    assert outcome.status == 2
    assert says in outcome.stderr


def test_check_exits_with_0_where_all_scans_can_be_used(prepared: Path, call: Run) -> None:
    before = tree_of(prepared)
    outcome = call("check healthy/*.nii.gz patient.nii.gz --model qspace-nd-model", prepared)
    assert outcome.status == 0
    assert "4 of 4 scans can be used." in outcome.stdout
    assert "14 channels: 2 at b=0, 12 at b=1200" in outcome.stdout
    assert tree_of(prepared) == before


def test_force_overwrites_and_what_is_not_the_outputs_stays(folder: Path, call: Run) -> None:
    old = (folder / "novelty.nii.gz").read_bytes()
    (folder / "qspace-nd-model/notes.txt").write_text("mine")
    assert call(f"{FIT_AGAIN} --epochs 1 --seed 1", folder).status == 0
    assert call("map patient.nii.gz --force", folder).status == 0
    assert (folder / "novelty.nii.gz").read_bytes() != old
    assert (folder / "qspace-nd-model/notes.txt").read_text() == "mine"
    listed = json.loads((folder / "qspace-nd-model/model.json").read_text())["files"]
    there = {name for name in tree_of(folder / "qspace-nd-model") if "-" in name}
    assert there == set(listed)  # nothing of the model that was replaced is left


# --- Stopped at work


@pytest.fixture
def training(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A `fit --force` that is at its training, which would take a long time."""
    from tests.conftest import words_of

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
    assert tree_of(folder) == tree_of(prepared)
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
            "fit healthy/*.nii.gz --latents 16,4 --epochs 60 --seed 3 --force",
            1_000,
        ),  # at the weights
        (
            "fit healthy/*.nii.gz --latents 16,4 --epochs 60 --seed 3 --force",
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


# --- The README


def console_blocks(text: str) -> list[list[str]]:
    """Give the lines that call `qspace-nd` in each block of the README that shows a shell."""
    blocks = re.findall(r"^```(?:console|bash|sh)\n(.*?)^```", text, re.M | re.S)
    lines = [[line.removeprefix("$ ") for line in block.splitlines()] for block in blocks]
    calls = [[line for line in block if line.startswith("qspace-nd ")] for block in lines]
    return [block for block in calls if block]


SHORTER = {
    "fit": " --epochs 1",
    "group": " --epochs 1",
    "simulate": " --controls 1 --voxel-size 8",
    "demo": None,
}
"""What is added to a line of the README with a word to make it quick; None where it cannot be."""


@pytest.mark.parametrize(
    "block", console_blocks(README.read_text()), ids=lambda block: block[0].replace(" ", "-")
)
def test_the_lines_of_the_readme_work(
    block: list[str], folder: Path, bids_cohort: Path, call: Run
) -> None:
    for output in ("qspace-nd-model", "novelty.nii.gz", "novelty.json", "novelty_mask.nii.gz"):
        path = folder / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    if not any(line.startswith("qspace-nd simulate") for line in block):
        (folder / "cohort").symlink_to(bids_cohort)
    for line in block:
        words = line.split()  # --add takes no settings
        found = (more for word, more in SHORTER.items() if word in words and "--add" not in words)
        more = next(found, "")
        if more is None:
            continue
        outcome = call(line.removeprefix("qspace-nd ") + more, folder)
        assert outcome.status == 0, outcome.stderr


@pytest.mark.parametrize("shape", [(6,), (1, 6, 5)], ids=["vectors", "images"])
def test_the_python_of_the_readme_works(
    shape: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for presets in (PRESETS, IMAGE_PRESETS):
        monkeypatch.setitem(presets, "default", replace(presets["default"], steps=10))
    random = np.random.default_rng(0)
    np.save(tmp_path / "normal.npy", random.random((60, *shape)))
    np.save(tmp_path / "test.npy", random.random((20, *shape)))
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.M | re.S)
    found: dict[str, Any] = {}
    exec(block, found)
    assert found["novelty"].shape == found["error"].shape == (20,)
    again = NoveltyModel.load("model").decision_function(found["test"])
    np.testing.assert_array_equal(again, found["novelty"])


def test_the_readme_shows_the_three_lines() -> None:
    lines = [line for block in console_blocks(README.read_text()) for line in block]
    for line in (
        "qspace-nd fit healthy/*.nii.gz",
        "qspace-nd map patient.nii.gz -o novelty.nii.gz",
        "qspace-nd eval --labels lesions.nii.gz",
    ):
        assert line in lines
