"""What a person at the terminal, or a log file, sees of a command: all of it on stderr."""

from __future__ import annotations

import logging
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rich.console import Console
from rich.text import Text

from qspace_nd.errors import QspaceError
from qspace_nd.progress import SILENT, Progress, bars


@contextmanager
def listening(*, quiet: bool = False, verbose: int = 0) -> Iterator[Progress]:
    """Print what the package logs, as long as the block lasts, and give the bars to show.

    Parameters
    ----------
    quiet : bool
        Print warnings and errors alone, and show no bars.
    verbose : int
        0 for what everybody wants to know, 1 for details too, 2 for the traceback of an error.
    """
    console = Console(stderr=True, highlight=False, emoji=False)
    logger, handler = logging.getLogger("qspace_nd"), _Printing(console)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)
    try:
        yield SILENT if quiet else bars(console)
    except (QspaceError, OSError, MemoryError):
        if verbose > 1:
            traceback.print_exc()
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def filled(text: str, width: int, indent: int = 0) -> str:
    """Break a line between words: a word as long as a path is left whole, to be copied."""
    margin = " " * indent
    return "\n".join(
        textwrap.fill(
            line,
            width,
            initial_indent=margin,
            subsequent_indent=margin,
            break_long_words=False,
            break_on_hyphens=False,
            expand_tabs=False,
            replace_whitespace=False,
        )
        for line in text.split("\n")
    )


def wrapped(text: str, stream: IO[str], indent: int = 0) -> str:
    """The same for a stream that is a terminal; for a file, each line stays one."""
    width = shutil.get_terminal_size().columns if stream.isatty() else sys.maxsize
    return filled(text, width, indent)


class _Printing(logging.Handler):
    """Prints on a console, above its bars, and word for word: a file's name may look like markup.

    `rich.logging.RichHandler` would set messages in columns and break their lines.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; what it is stands before it where it is a warning or an error."""
        told = self.format(record)
        warned = record.levelno >= logging.WARNING
        if warned:
            told = f"{record.levelname.capitalize()}: {told}"
        if self._console.is_terminal:
            told = filled(told, self._console.width)
        text = Text(told, style="" if record.levelno >= logging.INFO else "dim")
        if warned:
            text.stylize("yellow", 0, len(record.levelname) + 1)
        self._console.print(text, soft_wrap=True)
