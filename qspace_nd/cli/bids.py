"""`qspace-nd bids`: `fit` and `map` in the form of a BIDS App."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from qspace_nd.cli.fit import command as fit_command
from qspace_nd.cli.map import command as map_command
from qspace_nd.cli.options import Command
from qspace_nd.cli.values import PATH

LEVELS = {"group": fit_command, "participant": map_command}
_TAKEN = ("scans", "bids", "output")  # what the three arguments say


class _App(Command):
    """Labels come after DIR, OUT and the level."""

    arguments = 3


def _parameters() -> Iterator[click.Parameter]:
    """Give the arguments and the options of both levels; those of one say so in the help."""
    yield click.Argument(["dataset"], type=PATH, metavar="DIR")
    yield click.Argument(["output"], type=PATH, metavar="OUT")
    yield click.Argument(["level"], type=click.Choice([*LEVELS]))
    names = {level: {param.name for param in command.params} for level, command in LEVELS.items()}
    given = set(_TAKEN)
    for level, command in LEVELS.items():
        for param in command.params:
            if param.name in given or not isinstance(param, click.Option):
                continue
            given.add(param.name or "")
            shown = copy.copy(param)
            if not all(param.name in others for others in names.values()):
                shown.help = f"({level}) {param.help}"
            if param.name == "model":
                shown.help, shown.show_default = "The model.  [default: in OUT]", False
            yield shown


def _run(dataset: Path, output: Path, level: str, **options: Any) -> None:
    """Learn from a BIDS dataset, and map its participants: a BIDS App.

    `group` comes first: it fits a model on the healthy participants of DIR, as `qspace-nd fit
    --bids DIR` does, and puts it in OUT. `participant` then maps participants by it, as `qspace-nd
    map --bids DIR -o OUT` does; so that runs for one participant each can go side by side. OUT is a
    BIDS derivatives dataset.
    """
    from qspace_nd.errors import ModelError
    from qspace_nd.layouts.derivatives import MODEL, describe, require_own

    context, command = click.get_current_context(), LEVELS[level]
    own = {param.name for param in command.params}
    for param in context.command.params:
        used = context.get_parameter_source(str(param.name)) is not ParameterSource.DEFAULT
        if isinstance(param, click.Option) and used and param.name not in own:
            raise click.UsageError(f"{param.opts[0]} is no option of the level {level}.")
    if context.get_parameter_source("model") is ParameterSource.DEFAULT:
        options["model"] = output / MODEL
        if level == "participant" and not options["model"].exists():
            raise ModelError(
                f"There is no model in {options['model']}; fit one first (qspace-nd bids {dataset} "
                f"{output} group), or name its folder with --model."
            )
    require_own(output)
    arguments = {"scans": (), "bids": dataset, "output": output, **options}
    callback: Any = command.callback
    callback(**{name: value for name, value in arguments.items() if name in own})
    describe(output)


command = _App(
    "bids",
    params=[*_parameters()],
    callback=_run,
    help=_run.__doc__,
    epilog="Example:  qspace-nd bids DIR OUT group --where group=control  and then  "
    "qspace-nd bids DIR OUT participant --participant-label 01 02",
)
