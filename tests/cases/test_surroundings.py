"""Where the program runs: without a home, on terminals that cannot say all letters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qspace_nd.system.surroundings import require_home
from tests.conftest import PROGRAM, Run

NAMES = ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME")
NOBODY = """
import pwd, sys
def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = unknown
from qspace_nd.cli import main
sys.argv = ["qspace-nd", *sys.argv[1:]]
main()
"""


def as_nobody(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command line as in a container whose user has no name and no home."""
    return subprocess.run(
        [sys.executable, "-c", NOBODY, *line.split()],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name not in NAMES},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_user_without_home_and_name_gets_a_map(folder: Path) -> None:
    done = as_nobody("map patient.nii.gz -o other/n.nii.gz -q", folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "other/n.nii.gz").stat().st_size > 0


def test_the_home_of_who_has_none_is_asked_for_not_made_up(folder: Path) -> None:
    done = as_nobody("map patient.nii.gz -o ~/n.nii.gz", folder)
    assert done.returncode == 2
    assert "whose home ~ is, the system does not know" in done.stderr


def test_a_home_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    require_home()
    assert os.environ["HOME"] == "/nonexistent"


ASCII, LATIN = {"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}
C = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.mark.parametrize(
    ("line", "locale"),
    [
        ("scores", ASCII),
        ("eval --labels lesions.nii.gz -f", ASCII),
        ("scores", LATIN),
        ("eval --labels lesions.nii.gz -f", C),
    ],
)
def test_a_letter_that_cannot_be_said_is_replaced(
    line: str, locale: dict[str, str], folder: Path
) -> None:
    done = subprocess.run(
        [PROGRAM, *line.split()], cwd=folder, env=os.environ | locale, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    if line == "scores" and locale is ASCII:
        assert "N q?-q?y" in done.stdout.decode("ascii")


def test_sidecars_say_the_kind_of_processor(
    folder: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    assert call("map patient.nii.gz -o other.nii.gz --device cpu", folder).status == 0
    assert json.loads((folder / "other.json").read_text())["Processor"].endswith(", AVX9")
