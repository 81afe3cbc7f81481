"""`qspace-nd demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from qspace_nd.cli.options import COHORT, Command, chance, machine, overwriting, talking
from qspace_nd.cli.values import PATH
from qspace_nd.progress import Progress


@click.command("demo", cls=Command, epilog="Example:  qspace-nd demo")
@click.argument("folder", type=PATH, default=Path("qspace-nd-demo"))
@overwriting
@machine
@chance(COHORT)
@talking
def command(folder: Path, force: bool, machine: Any, seed: int, progress: Progress) -> None:
    """Simulate a small cohort, then fit, map, eval and report on it, in FOLDER (qspace-nd-demo).

    Takes about three minutes on two cores.
    """
    from qspace_nd.cli.eval import show
    from qspace_nd.workflows.demo import run_demo

    demo = run_demo(folder, seed=seed, machine=machine, force=force, progress=progress)
    show(demo.results)
    for line in demo.summary():
        click.echo(line)
