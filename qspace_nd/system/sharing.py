"""Doing a piece of work for each of several items: here, or wherever else it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from qspace_nd.system.machine import Machine
from qspace_nd.system.threads import workers

Item = TypeVar("Item")
Made = TypeVar("Made")


class Each(Protocol):
    """Does a piece of work for each of several items, and gives what it makes in their order."""

    @property
    def elsewhere(self) -> Machine | None:
        """What each process may use that does it, none of which sees more than the disk.

        Work, items and what is made of them are pickled then. None where it is done here.
        """

    def __call__(
        self, work: Callable[[Item], Made], items: Iterable[Item], *, by_threads: bool = False
    ) -> Iterator[Made]:
        """Do `work` with each of `items`; `by_threads` that compute on one each, if it is here.

        Raises
        ------
        QspaceError
            One could not be done.
        """


class _Here:
    """Does it in this process: one item after another, unless by threads."""

    elsewhere = None

    def __call__(
        self, work: Callable[[Item], Made], items: Iterable[Item], *, by_threads: bool = False
    ) -> Iterator[Made]:
        if not by_threads:
            yield from map(work, items)
            return
        with workers() as pool:
            yield from pool.map(work, items)


HERE: Each = _Here()
"""Does it in this process: the default of every function of the library."""
