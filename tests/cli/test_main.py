"""The command line as a whole: its help, its exit status, how much it says."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from qspace_nd.cli import COMMANDS
from tests.conftest import Run


def imported_by(*words: str) -> set[str]:
    """The modules that a command line imports, in a process of its own."""
    code = """
        import sys
        from qspace_nd.cli import main
        sys.argv = ["qspace-nd", *sys.argv[1:]]
        try:
            main()
        except SystemExit as ended:
            assert ended.code == 0
        print(*sys.modules, file=sys.stderr)
    """
    program = [sys.executable, "-c", textwrap.dedent(code), *words]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    return set(done.stderr.split())


def test_help_imports_nothing_but_what_it_shows() -> None:
    imported = imported_by("--help")
    assert {name for name in imported if name.startswith("qspace_nd.")} == {
        "qspace_nd._version",
        "qspace_nd.cli",
        "qspace_nd.errors",
    }
    assert not {"numpy", "rich"} & imported


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_imports_neither_torch_nor_dipy(command: str) -> None:
    heavy = {"torch", "dipy", "nibabel", "numba", "scipy", "sklearn", "matplotlib", "bids"}
    assert not heavy & imported_by(command, "-h")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example(command: str, tmp_path: Path, call: Run) -> None:
    shown = call(f"{command} -h", tmp_path)
    assert shown.status == 0
    assert f"Example:  qspace-nd {command}" in shown.stdout
    assert call(f"{command} --help", tmp_path) == shown


def test_the_help_of_the_group_lists_every_command(tmp_path: Path, call: Run) -> None:
    outcome = call("--help", tmp_path)
    assert outcome.status == 0
    assert all(name in outcome.stdout for name in COMMANDS)


def test_quiet_commands_say_nothing(folder: Path, call: Run) -> None:
    for line in (
        "fit healthy/*.nii.gz --latents 16,4 --epochs 60 --model new-model",
        "map patient.nii.gz -o map.nii.gz --model new-model",
        "simulate other --layout flat --controls 1 --patients 0 --voxel-size 10",
    ):
        outcome = call(f"{line} -q", folder)
        told = [one for one in outcome.stderr.splitlines() if not one.startswith("Warning: ")]
        assert (outcome.status, outcome.stdout, told) == (0, "", [])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit", "Missing argument 'SCANS...'"),
        ("eval", "Missing option '--labels'"),
        ("mapp patient.nii.gz", "There is no command 'mapp'; did you mean map?"),
        ("fit healthy --epochs 0", "Invalid value for '--epochs'"),
        ("fit healthy --latents 12", "12 latents need all widths, as in 64,32,16,12"),
        ("map patient.nii.gz --device gpu", "Invalid value for '--device'"),
    ],
)
def test_wrong_usage_exits_with_2(line: str, says: str, prepared: Path, call: Run) -> None:
    outcome = call(line, prepared)
    assert outcome.status == 2
    assert says in outcome.stderr


# --- How much is said


def test_details_are_for_those_who_ask(folder: Path, call: Run) -> None:
    line = "map patient.nii.gz -o map.nii.gz --force"
    for more, told in (("", False), ("-v", True)):
        outcome = call(f"{line} {more}", folder)
        assert "Wrote map.nii.gz" in outcome.stderr
        assert (
            bool(re.search(r"^Mapping patient.nii.gz took \d+\.\d s$", outcome.stderr, re.M))
            == told
        )


@pytest.mark.parametrize(("more", "shown"), [("", False), ("-v", False), ("-vv", True)])
def test_a_traceback_is_for_those_who_ask_twice(
    more: str, shown: bool, prepared: Path, call: Run
) -> None:
    outcome = call(f"map absent.nii.gz {more}", prepared)
    assert outcome.status == 2
    assert ("Traceback" in outcome.stderr) == shown
    assert outcome.stderr.splitlines()[-1].startswith("qspace-nd: absent.nii.gz does not exist")
