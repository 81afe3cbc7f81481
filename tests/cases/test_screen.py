"""What a terminal of 80 columns shows, and what a person is told to do next."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from qspace_nd.cli.console import filled, wrapped
from qspace_nd.cli.options import Command
from qspace_nd.cli.printing import render_table
from qspace_nd.cli.spreading import spread, valued_options
from qspace_nd.evaluation.metrics import evaluate
from qspace_nd.progress import within
from tests.conftest import Heard, Run
from tests.evaluation.conftest import random_case

LABELS = "--participant-label"


# --- Words and lines


def test_lines_break_between_words_and_paths_stay_whole() -> None:
    path = "maps/sub-patient01/dwi/" + 80 * "x" + ".nii.gz"
    assert filled(f"Wrote {path} today", 40).split("\n") == ["Wrote", path, "today"]
    assert filled("a b\nc", 80, indent=2) == "  a b\n  c"
    assert filled("one-word-with-hyphens", 8) == "one-word-with-hyphens"


def test_lines_of_a_log_stay_one(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 60 + "end"
    assert wrapped(text, io.StringIO()) == text
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, wrapped(text, sys.stdout).split("\n"))) <= 80


@pytest.mark.parametrize("columns", [80, 100, 200])
def test_no_name_of_a_score_is_cut(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from qspace_nd.cli import scores
    from qspace_nd.scores.catalogue import CATALOGUE

    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr("rich.console.Console", lambda **_: terminal)
    scores.command.callback(quiet=False, verbose=0)  # type: ignore[misc]
    lines = [line for line in shown.getvalue().splitlines()[1:] if line.strip()]
    rows = [line.split()[0] for line in lines if not line.startswith("   ")]  # a row's first line
    assert rows[: len(CATALOGUE)] == [*CATALOGUE]
    assert "…" not in shown.getvalue()


@pytest.mark.parametrize("patients", [["a" * 60], ["sub-01", "sub-02"], ["b" * 20, "c" * 20]])
@pytest.mark.parametrize("scores", [["latent-distance"], ["input-distance", "latent-distance"]])
def test_no_heading_or_figure_of_a_table_is_cut(patients: list[str], scores: list[str]) -> None:
    results = [
        replace(evaluate(random_case(0, patient), 8.0), score=score)
        for patient in patients
        for score in scores
    ]
    shown = io.StringIO()
    Console(file=shown, width=80).print(render_table(results, width=80))
    lines = shown.getvalue().splitlines()
    assert "…" not in shown.getvalue()
    assert max(map(len, lines)) <= 80
    assert any("AUC" in line for line in lines)


# --- Did you mean


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("ft healthy", "There is no command 'ft'; did you mean fit?"),
        ("simulat x", "did you mean simulate?"),
        ("score", "did you mean scores?"),
        ("map patient.nii.gz --score latent-distence", "did you mean latent-distance"),
        ("map patient.nii.gz --score latentDistance", "did you mean latent-distance"),
        ("map patient.nii.gz --score latent_kl", "did you mean latent-kl"),
        ("map patient.nii.gz --scor latent-kl", "Did you mean"),
        ("map patient.nii.gz --score zebra", "; the scores are: input-distance, latent-kl, "),
    ],
)
def test_a_name_that_is_nearly_right_is_answered_with_the_right_one(
    line: str, says: str, prepared: Path, call: Run
) -> None:
    done = call(line, prepared)
    assert (done.status, says in done.stderr) == (2, True), done.stderr


def test_a_name_that_is_like_none_gets_no_guess(prepared: Path, call: Run) -> None:
    assert "id you mean" not in call("zebra", prepared).stderr


# --- Several participants


def words(line: str, arguments: int = 0, files: tuple[str, ...] = ()) -> str:
    valued = frozenset({LABELS, "--model", "-o"})
    found = spread(
        line.split(), valued, arguments, lambda word: arguments == 1 and word not in files
    )
    return " ".join(found)


@pytest.mark.parametrize(
    ("line", "arguments", "becomes"),
    [
        (f"--bids d {LABELS} a b -q", 0, f"--bids d {LABELS} a {LABELS} b -q"),
        ("--participant_label a b", 0, f"--participant_label a {LABELS} b"),
        (f"maps {LABELS} a b", 1, f"maps {LABELS} a {LABELS} b"),
        (f"{LABELS} a b maps more", 1, f"{LABELS} a {LABELS} b maps more"),
        (f"--model m {LABELS} a maps", 1, f"--model m {LABELS} a maps"),
        (f"d o participant {LABELS} a b", 3, f"d o participant {LABELS} a {LABELS} b"),
        (f"{LABELS} a d o participant", 3, f"{LABELS} a d o participant"),
        (f"{LABELS}=a b", 0, f"{LABELS}=a b"),
        (f"{LABELS} a -- b c", 0, f"{LABELS} a -- b c"),
    ],
)
def test_labels_may_follow_one_another(line: str, arguments: int, becomes: str) -> None:
    assert words(line, arguments, files=("maps", "more")) == becomes


@pytest.mark.parametrize("name", ["fit", "map", "check", "eval", "bids"])
def test_every_command_that_has_participants_takes_several(name: str) -> None:
    import click

    from qspace_nd.cli import cli

    command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
    assert isinstance(command, Command)
    assert LABELS in valued_options(command)


# --- As much as is asked for


def test_a_quiet_check_tells_what_is_wrong_alone(folder: Path, call: Run) -> None:
    assert call("check healthy patient.nii.gz -q", folder).stdout == ""
    (folder / "healthy/control-02.bval").write_text("0 1200 1200\n")
    done = call("check healthy patient.nii.gz -q", folder)
    assert done.status == 2
    first, problem, count = done.stdout.splitlines()
    assert first == "healthy/control-02.nii.gz: cannot be used"
    assert problem.startswith("    Problem: ")
    assert count == "3 of 4 scans can be used."


def test_tuning_says_what_it_chose(folder: Path, call: Run) -> None:
    line = "fit healthy --tune --latents 16,4 --kl-weight 0.1 --epochs 1 --model tuned"
    done = call(line, folder)
    assert done.status == 0, done.stderr
    lines = done.stderr.splitlines()
    (at,) = (k for k, told in enumerate(lines) if told.startswith("Chosen: --neighbours "))
    assert lines[at].split(".")[0].removeprefix("Chosen: ") in lines[at + 1]  # the best comes first


def test_a_scan_of_many_moves_the_bar_of_all() -> None:
    heard = Heard()
    with heard.task("Reading scans", 6) as task, within(task).task("Reading a", 5) as volumes:
        for _ in range(5):
            volumes.advance()
    assert (heard.names, heard.steps) == (["Reading scans"], [5])
