"""What the recipes have in common: the benchmarks' modules, one folder up, and options."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

BENCHMARKS = Path(__file__).resolve().parents[1]

if str(BENCHMARKS) not in sys.path:  # modules there import each other by their names alone
    sys.path.append(str(BENCHMARKS))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where things are kept and written, as all benchmarks have it."""
    parser.add_argument(
        "--cache",
        type=Path,
        default=BENCHMARKS / ".cache",
        metavar="FOLDER",
        help="for the model and the maps, which are kept; begin with an empty one after a change",
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="of RESULTS.md")
    parser.add_argument("--quick", action="store_true", help="train little, to see that it runs")


def results(options: argparse.Namespace) -> Path:
    """The file that a section is written into."""
    folder = options.output or (options.cache if options.quick else BENCHMARKS)
    return Path(folder) / "RESULTS.md"


def told(arguments: Sequence[str] | None) -> list[str]:
    """The options as a section tells them: those of the command line, no folder of a machine."""
    given = sys.argv[1:] if arguments is None else arguments
    return ["DIR" if Path(one).is_absolute() else one for one in given]
