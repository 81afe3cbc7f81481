from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from rich.console import Console

from qspace_nd.cli import console
from qspace_nd.cli.console import listening
from qspace_nd.errors import ScanError
from qspace_nd.progress import SILENT

LOG = logging.getLogger("qspace_nd.some.module")


def say_all() -> None:
    LOG.debug("detail")
    LOG.info("done")
    LOG.warning("careful")
    LOG.error("bad")


@pytest.mark.parametrize(
    ("asked", "lines"),
    [
        ({"quiet": True}, ["Warning: careful", "Error: bad"]),
        ({}, ["done", "Warning: careful", "Error: bad"]),
        ({"verbose": 1}, ["detail", "done", "Warning: careful", "Error: bad"]),
        ({"quiet": True, "verbose": 1}, ["Warning: careful", "Error: bad"]),
    ],
)
def test_as_much_is_printed_as_was_asked_for_on_stderr(
    asked: dict, lines: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with listening(**asked):
        say_all()
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", lines)


def test_quiet_shows_no_bars() -> None:
    with listening(quiet=True) as progress:
        assert progress is SILENT
    with listening() as progress:
        assert progress is not SILENT


def test_logging_is_afterwards_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("qspace_nd")
    before = logger.level, list(logger.handlers)
    with listening(verbose=2), pytest.raises(ZeroDivisionError), listening():
        raise ZeroDivisionError
    say_all()
    assert (logger.level, list(logger.handlers)) == before
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("verbose", "shown"), [(0, False), (1, False), (2, True)])
def test_a_traceback_is_for_those_who_ask_twice(
    verbose: int, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ScanError), listening(verbose=verbose):
        raise ScanError("x.nii.gz is bad.")
    assert ("Traceback" in capsys.readouterr().err) == shown


# --- On a terminal


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Let the command line take a buffer for a terminal."""
    text = io.StringIO()
    shown = Console(file=text, force_terminal=True, width=60, highlight=False, emoji=False)
    monkeypatch.setattr(console, "Console", lambda **_: shown)
    monkeypatch.setenv("TERM", "xterm")
    yield text


def test_messages_stand_above_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        terminal(monkeypatch) as text,
        listening() as progress,
        progress.task("Training", 2) as task,
    ):
        task.advance()
        LOG.warning("careful")
        task.advance()
    screen = text.getvalue().split("\x1b[2K")  # each bar is drawn over the one before
    said = next(part for part in screen if "careful" in part)
    assert said.index("careful") < said.index("Training")


def test_what_a_message_is_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as text, listening(verbose=1):
        say_all()
    yellow, dim, plain = "\x1b[33m", "\x1b[2m", "\x1b[0m"
    assert text.getvalue().splitlines() == [
        f"{dim}detail{plain}",
        "done",
        f"{yellow}Warning:{plain} careful",
        f"{yellow}Error:{plain} bad",
    ]


@pytest.mark.parametrize(
    "message", ["/data/[old]/a.nii.gz", "/data/:smile:/[/]", "b=0 s/mm²", "a\\", "x" * 300]
)
def test_messages_are_told_as_they_are(
    message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening():
        LOG.info(message)
    assert capsys.readouterr().err == f"{message}\n"
    with terminal(monkeypatch) as text, listening():
        LOG.info(message)
    assert text.getvalue() == f"{message}\n"
