"""How far work has come: to whom it is shown, and how."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from qspace_nd import progress
from qspace_nd.progress import SILENT, Progress, bars, timed, watcher

Kind = Callable[[Console], Progress]


def listener(kind: Kind) -> tuple[Progress, io.StringIO]:
    text = io.StringIO()
    terminal = kind is progress._Bars
    return kind(Console(file=text, force_terminal=terminal, width=100)), text


# --- Whom it is shown to


def test_whoever_asks_gets_bars_and_nobody_else() -> None:
    assert watcher(False) is SILENT
    assert isinstance(watcher(True), progress._Lines | progress._Bars)
    assert watcher(SILENT) is SILENT


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(bars(), progress._Bars)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(bars(), progress._Lines)


def test_a_log_gets_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with bars().task("Training", 3) as task:
        task.advance(3, note="loss 1.00")
    assert capsys.readouterr() == ("", "Training: done in 0 s (loss 1.00)\n")


def test_the_silent_listener_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with SILENT.task("Training", 3) as task:
        task.advance(2, note="loss")
    assert capsys.readouterr() == ("", "")


def test_rich_is_imported_only_where_something_is_shown() -> None:
    code = "import sys, qspace_nd.progress as p; p.watcher(False); sys.exit('rich' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_how_long_a_step_took_is_logged_for_those_who_want_details(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([10.0, 13.46])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    caplog.set_level(logging.DEBUG, "qspace_nd")
    with timed("Reading scans"):
        pass
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("DEBUG", "Reading scans took 3.5 s")
    ]


# --- The log


def test_what_the_first_step_prepared_is_not_expected_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown, text = listener(progress._Lines)
    with shown.task("Scoring", 100) as task:
        for seconds in (30.0, 15.0, 15.0, 0.0):
            now += seconds
            task.advance(10)
    assert text.getvalue().splitlines() == [
        "Scoring: 10%",
        "Scoring: 30%, about 1 min 45 s left",
        "Scoring: done in 1 min 0 s",
    ]


def test_a_log_gets_an_estimate_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    shown, text = listener(progress._Lines)
    with shown.task("Training", 200) as task:
        for _ in range(100):
            now += 1.0
            task.advance(note="loss 1.00")
    lines = text.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "Training: 10%, about 3 min 0 s left (loss 1.00)"
    assert lines[4] == "Training: 50%, about 1 min 40 s left (loss 1.00)"
    assert lines[5] == "Training: done in 1 min 40 s (loss 1.00)"


def test_a_log_does_not_say_done_of_work_that_failed() -> None:
    shown, text = listener(progress._Lines)
    with pytest.raises(KeyboardInterrupt), shown.task("Training", 3):
        raise KeyboardInterrupt
    assert text.getvalue() == ""


def test_a_task_of_nothing_is_done() -> None:
    for kind in (progress._Lines, progress._Bars):
        shown, _ = listener(kind)
        with shown.task("Scoring", 0) as task:
            task.advance(0)


@pytest.mark.parametrize("kind", [progress._Lines, progress._Bars])
def test_names_and_notes_with_brackets_are_told_as_they_are(kind: Kind) -> None:
    shown, text = listener(kind)
    with shown.task("Reading [old] :smile:", 2) as task:
        task.advance(2, note="[/]")
    assert "Reading [old] :smile:" in text.getvalue()
    assert "[/]" in text.getvalue()


# --- Bars

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"  # the cursor


def last_screen(text: io.StringIO) -> str:
    return text.getvalue().split(HIDDEN)[-1]


def test_a_bar_reaches_its_end_and_shows_its_note() -> None:
    shown, text = listener(progress._Bars)
    with shown.task("Training", 3) as task:
        task.advance(1)
        task.advance(2, note="loss 1.00")
    assert "100%" in last_screen(text)
    assert "loss 1.00" in last_screen(text)


def test_bars_of_finished_work_are_not_drawn_again() -> None:
    shown, text = listener(progress._Bars)
    for name in ("Reading", "Training"):
        with shown.task(name, 1) as task:
            task.advance()
    assert "Training" in last_screen(text)
    assert "Reading" not in last_screen(text)


def test_tasks_inside_tasks_share_a_display() -> None:
    shown, text = listener(progress._Bars)
    with shown.task("Mapping", 2) as outer:
        for _ in range(2):
            with shown.task("Scoring", 5) as inner:
                inner.advance(5)
            outer.advance()
    assert text.getvalue().count(HIDDEN) == 1
    assert "Mapping" in last_screen(text)
    assert "Scoring" in last_screen(text)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_gives_the_cursor_back(failure: type[BaseException]) -> None:
    shown, text = listener(progress._Bars)
    with pytest.raises(failure), shown.task("Training", 3):
        raise failure
    assert text.getvalue().count(HIDDEN) == text.getvalue().count(SHOWN) == 1


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3600, "1 h 0 min"),
        (9000, "2 h 30 min"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float, words: str) -> None:
    assert progress._duration(seconds) == words
