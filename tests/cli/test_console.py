from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
from rich.console import Console

from qspace_nd.cli import console
from qspace_nd.cli.console import open_progress
from qspace_nd.progress import SILENT, Progress


def listener(kind: Callable[[Console], Progress]) -> tuple[Progress, io.StringIO]:
    terminal = kind is console._Terminal
    text = io.StringIO()
    out = Console(file=text, force_terminal=terminal, width=100, highlight=False, emoji=False)
    return kind(out), text


# --- Whom it speaks to


def test_a_log_gets_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    progress = open_progress(quiet=False)
    with progress.task("Training", 3) as task:
        task.advance(3, note="loss 1.00")
    progress.say("done")
    progress.warn("careful")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "Training: done in 0 s (loss 1.00)\ndone\nWarning: careful\n"


def test_quiet_leaves_warnings_alone(capsys: pytest.CaptureFixture[str]) -> None:
    progress = open_progress(quiet=True)
    with progress.task("Training", 3) as task:
        task.advance(3, note="loss 1.00")
    progress.say("done")
    progress.warn("careful")
    assert capsys.readouterr() == ("", "Warning: careful\n")


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_progress(quiet=False), console._Terminal)


def test_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_progress(quiet=False), console._Log)


def test_the_silent_listener_hears_everything_and_tells_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with SILENT.task("Training", 3) as task:
        task.advance(2, note="loss")
    SILENT.say("done")
    SILENT.warn("careful")
    assert capsys.readouterr() == ("", "")


# --- The log


def test_what_the_first_step_prepared_is_not_expected_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    progress, text = listener(console._Log)
    with progress.task("Scoring", 100) as task:
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
    progress, text = listener(console._Log)
    with progress.task("Training", 200) as task:
        for _ in range(100):
            now += 1.0
            task.advance(note="loss 1.00")
    lines = text.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0] == "Training: 10%, about 3 min 0 s left (loss 1.00)"
    assert lines[4] == "Training: 50%, about 1 min 40 s left (loss 1.00)"
    assert lines[5] == "Training: done in 1 min 40 s (loss 1.00)"


def test_a_log_does_not_say_done_of_work_that_failed() -> None:
    progress, text = listener(console._Log)
    with pytest.raises(KeyboardInterrupt), progress.task("Training", 3):
        raise KeyboardInterrupt
    assert text.getvalue() == ""


def test_a_task_of_nothing_is_done() -> None:
    for kind in (console._Log, console._Terminal, console._Quiet):
        progress, _ = listener(kind)
        with progress.task("Scoring", 0) as task:
            task.advance(0)


# --- Messages


@pytest.mark.parametrize("kind", [console._Log, console._Terminal])
@pytest.mark.parametrize(
    "message", ["/data/[old]/a.nii.gz", "/data/:smile:/[/]", "b=0 s/mm²", "a\\", "x" * 300]
)
def test_messages_are_told_as_they_are(kind: Callable[[Console], Progress], message: str) -> None:
    progress, text = listener(kind)
    progress.say(message)
    assert text.getvalue() == f"{message}\n"
    progress.warn(message)
    assert message in text.getvalue().splitlines()[1]


@pytest.mark.parametrize("kind", [console._Log, console._Terminal])
def test_names_and_notes_with_brackets_are_told_as_they_are(
    kind: Callable[[Console], Progress],
) -> None:
    progress, text = listener(kind)
    with progress.task("Reading [old]", 2) as task:
        task.advance(2, note="[/]")
    assert "Reading [old]" in text.getvalue()
    assert "[/]" in text.getvalue()


# --- Bars

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"  # the cursor


def last_screen(text: io.StringIO) -> str:
    return text.getvalue().split(HIDDEN)[-1]


def test_a_bar_reaches_its_end_and_shows_its_note() -> None:
    progress, text = listener(console._Terminal)
    with progress.task("Training", 3) as task:
        task.advance(1)
        task.advance(2, note="loss 1.00")
    assert "100%" in last_screen(text)
    assert "loss 1.00" in last_screen(text)


def test_bars_of_finished_work_are_not_drawn_again() -> None:
    progress, text = listener(console._Terminal)
    for name in ("Reading", "Training"):
        with progress.task(name, 1) as task:
            task.advance()
    assert "Training" in last_screen(text)
    assert "Reading" not in last_screen(text)


def test_tasks_inside_tasks_share_a_display() -> None:
    progress, text = listener(console._Terminal)
    with progress.task("Mapping", 2) as outer:
        for _ in range(2):
            with progress.task("Scoring", 5) as inner:
                inner.advance(5)
            outer.advance()
    assert text.getvalue().count(HIDDEN) == 1
    assert "Mapping" in last_screen(text)
    assert "Scoring" in last_screen(text)


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_gives_the_cursor_back(failure: type[BaseException]) -> None:
    progress, text = listener(console._Terminal)
    with pytest.raises(failure), progress.task("Training", 3):
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
    assert console._duration(seconds) == words
