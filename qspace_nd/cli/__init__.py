"""The command line: one file per command, each imported only when it is called."""

from __future__ import annotations

import os
import signal
import sys
from difflib import get_close_matches
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any

import click

from qspace_nd._version import __version__
from qspace_nd.errors import InputError, QspaceError

# In the order of use; each name is also that of the file and the function of the command.
COMMANDS = {
    "fit": "Learn what healthy tissue looks like from scans of healthy people.",
    "calibrate": "Find what maps of healthy people look like; fit does it for the default score.",
    "map": "Write novelty maps of patients' scans.",
    "eval": "Compare novelty maps with lesion masks drawn by experts.",
    "report": "Write a page for each person's maps, to be opened in a browser.",
    "check": "Say what is wrong with scans; compute nothing.",
    "stack": "Put separate images, T1w and FLAIR for instance, into one 4-D file a person.",
    "bids": "Fit and map as a BIDS App: DIR OUT group|participant.",
    "scores": "List every novelty score with its equation.",
    "simulate": "Write a cohort of simulated healthy controls and patients.",
    "demo": "Simulate a small cohort, then fit, map, eval and report on it.",
}


_HELP = """Find abnormal tissue in diffusion MRI without lesion labels.

\b
The three lines of most studies:
  qspace-nd fit healthy/*.nii.gz
  qspace-nd map patient.nii.gz -o novelty.nii.gz
  qspace-nd eval --labels lesions.nii.gz
"""


class _LazyCommands(click.Group):
    """Imports a command when it is called, so that --help is quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = import_module(f"qspace_nd.cli.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(self, context: click.Context, args: list[str]) -> Any:
        """Find the command that is named first; say which one may be meant."""
        close = get_close_matches(args[0], COMMANDS, 1)
        if args[0] not in COMMANDS and close and not args[0].startswith("-"):
            context.fail(f"There is no command {args[0]!r}; did you mean {close[0]}?")
        return super().resolve_command(context, args)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_LazyCommands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "token_normalize_func": lambda word: word.replace("_", "-"),  # BIDS Apps' options have _
    },
    help=_HELP,
    epilog="Start with `qspace-nd demo`. Every command has its own help: `qspace-nd fit -h`.",
)
@click.version_option(__version__, "-V", "--version", message="qspace-nd %(version)s")
def cli() -> None:
    """Hold the commands."""


def main() -> None:
    """Run the command line and exit: 0 all done, 2 wrong usage or input, 1 a failure at work."""
    signal.signal(signal.SIGTERM, _interrupt)
    _prepare_surroundings()
    try:
        status = _status()
    except OSError:  # what is said is not taken: nobody is left to tell
        status = 1
    sys.exit(status)


def _status() -> int:
    """Run the command line, and say what went wrong."""
    try:
        status: int = cli.main(prog_name="qspace-nd", standalone_mode=False) or 0
    except QspaceError as error:
        status = _report(str(error), 2 if isinstance(error, InputError) else 1)
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        if isinstance(error.__cause__, EOFError):  # which click takes for the end of an input
            raise error.__cause__ from None
        status = _report("Interrupted; no half-written file was left.", 130)
    except MemoryError:
        status = _report("Out of memory; use fewer or smaller scans, or a larger machine.", 1)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has gone; nobody is left to tell
        status = 1
    except OSError as error:
        status = _report(f"The system refused: {error}.", 1)
    return status


def _prepare_surroundings() -> None:
    """Make do where letters cannot be printed, or a stream is closed.

    A file that is written to would be taken for the stream else, as it gets the first free number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout, sys.stderr = (
        Path(os.devnull).open("w") if stream is None else stream  # noqa: SIM115
        for stream in (sys.stdout, sys.stderr)
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _report(message: str, status: int) -> int:
    from qspace_nd.cli.console import wrapped

    click.echo(wrapped(f"qspace-nd: {message}", sys.stderr), err=True)
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
