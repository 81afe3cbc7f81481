"""What options take: paths, in which ~ is somebody's home, and numbers that are some.

Each is refused in a sentence that says what was found and what is wanted.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qspace_nd.errors import InputError

if TYPE_CHECKING:
    from qspace_nd.workflows.clusters import Cluster


class _Path(click.Path):
    """A path; a ~ in front, which shells leave in `--output=~/x`, is expanded here, once."""

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Path:
        text = os.fspath(value)
        if not text:
            self.fail("the name is empty; name a file or a folder.", param, context)
        expanded = os.path.expanduser(text)  # noqa: PTH111  Path("./~x") would lose what it says
        if text.startswith("~") and expanded == text and not os.path.lexists(text):
            self.fail(
                f"{text!r}: whose home {text.split('/')[0]} is, the system does not know; "
                f"write out the path, or ./{text} for a name that begins with ~.",
                param,
                context,
            )
        checked: Any = super().convert(expanded, param, context)
        return Path(checked)


PATH = _Path(path_type=Path)


def _written(end: float) -> str:
    return f"{int(end):,}" if end == int(end) else f"{end:g}"


class Number(click.ParamType[float]):
    """A finite number in a range.

    Parameters
    ----------
    least, most : float
        The ends of the range.
    unit : str
        What is counted.
    above, below : bool
        Whether the lower, the upper end is left out.
    """

    name = "number"
    _what = "a number"

    def __init__(
        self, least: float, most: float, unit: str = "", *, above: bool = False, below: bool = False
    ) -> None:
        self._least, self._most = least, most
        self._above, self._below = above, below
        low = f"above {_written(least)}" if above else f"from {_written(least)}"
        high = f"below {_written(most)}" if below else f"up to {_written(most)}"
        self._wanted = f"{self._what} {low} {'and ' if above else ''}{high} {unit}".rstrip()

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> float:
        """Read it; refuse NaN and infinity, and what is out of range."""
        try:
            number = self._read(value)
        except (ValueError, OverflowError):
            self.fail(
                f"{str(value)[:40]!r} is no number; {self._wanted} is wanted.", param, context
            )
        if math.isnan(number):
            self.fail(f"{value} is no number; {self._wanted} is wanted.", param, context)
        low = number > self._least if self._above else number >= self._least
        high = number < self._most if self._below else number <= self._most
        if not (math.isfinite(number) and low and high):
            self.fail(
                f"{str(value)[:40]!r} is out of range; {self._wanted} is wanted.", param, context
            )
        return number

    def _read(self, value: Any) -> float:
        return float(value)


class Whole(Number):
    """A whole number in a range, both ends included; the parameters are those of `Number`."""

    _what = "a whole number"

    def _read(self, value: Any) -> int:
        return int(value)


class PartOf(click.ParamType[tuple[int, int]]):
    """Which part of how many, as 2/8 says it: from 1 on."""

    name = "part"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int]:
        """Read it."""
        if isinstance(value, tuple):
            return value
        try:
            number, of = (int(one) for one in str(value).split("/"))
        except ValueError:
            number, of = 0, 0
        if not 1 <= number <= of:
            self.fail(
                f"{str(value)[:40]!r} names no part; 1/8 to 8/8 are the parts of eight, for "
                f"instance.",
                param,
                context,
            )
        return number, of


class WorkersOf(click.ParamType["Cluster"]):
    """Whose workers do the work, as local:4 says it."""

    name = "workers"

    def convert(
        self, value: Any, param: click.Parameter | None, context: click.Context | None
    ) -> Cluster:
        """Read it."""
        from qspace_nd.workflows.clusters import cluster_of

        if not isinstance(value, str):
            cluster: Cluster = value
            return cluster
        try:
            return cluster_of(value)
        except InputError as error:
            self.fail(str(error), param, context)
