"""The healthy reference: views of every healthy voxel, in one part for each scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from qspace_nd.arrays import Float32, Int64
from qspace_nd.errors import InputError
from qspace_nd.gaussian import Gaussian
from qspace_nd.scores.norms import Norms
from qspace_nd.scores.views import Background, GaussianView, PointView, View, Views
from qspace_nd.searching.nearest import Build, Finder, NearestNeighbours
from qspace_nd.system.scratch import ROWS, Room

if TYPE_CHECKING:
    from qspace_nd.searching.tree import PointTree


@dataclass(frozen=True)
class Part:
    """Healthy voxels of one scan.

    Attributes
    ----------
    subject : str
        Whose they are.
    open : callable
        Gives the scan's views. Where they lie on the disk, each call gives new ones, so that what
        is looked at takes memory only for as long as they are held.
    start, stop : int, int or None
        Which of the scan's voxels are meant: from `start` to before `stop`, or to the last.
    """

    subject: str
    open: Callable[[], Views]
    start: int = 0
    stop: int | None = None

    def __len__(self) -> int:
        return len(range(len(self.open()))[self.start : self.stop])

    @property
    def views(self) -> Views:
        """The views of the voxels."""
        return self.open()[self.start : self.stop]

    def encoded(self) -> Part:
        """The part with its posteriors, computed now and held in memory."""
        views = self.views
        views.q  # noqa: B018
        return Part(self.subject, partial(_held, views))  # which can be pickled

    def less(self, backgrounds: Mapping[str, Background]) -> Part:
        """The part, of whose views these backgrounds are taken off (`Views.less`)."""
        return replace(self, open=partial(_less, self.open, backgrounds))

    def pieces(self) -> Iterator[Part]:
        """The part in pieces of at most `scratch.ROWS` voxels."""
        stop = self.start + len(self)
        for start in range(self.start, stop, ROWS):
            yield replace(self, start=start, stop=min(start + ROWS, stop))


def _is_shared(view: View, build: object) -> bool:
    """Whether an index of all serves where a subject is left out.

    Not that of places, as backgrounds are of the people who are left.
    """
    return build is NearestNeighbours and view != "placed"


def _held(views: Views) -> Views:
    return views


def _less(opened: Callable[[], Views], backgrounds: Mapping[str, Background]) -> Views:
    return opened().less(backgrounds)


Trees = TypeVar("Trees")
Made = TypeVar("Made")


class Reference:
    """All healthy voxels that a voxel is compared with.

    Parameters
    ----------
    parts : sequence of Part
        At least one.
    weights : tuple of K float, optional
        What each of the voxels' features counts for in the view `placed`, where they have places;
        all alike where none are given.
    whole : (Reference, str), optional
        The reference that these parts are of, and whose are left out: what is indexed of it serves
        here too.
    kept : callable, optional
        Gives the tree of the view `q_bar` that was kept, or None where there is none that serves.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        weights: tuple[float, ...] = (1.0,),
        whole: tuple[Reference, str] | None = None,
        kept: Callable[[], PointTree | None] | None = None,
    ) -> None:
        self.parts = tuple(parts)
        self.weights = weights
        self._whole = whole
        self._kept = kept
        self._indexes: dict[tuple[str, object], object] = {}
        self._norms: dict[str, Norms] = {}
        self._made: dict[object, object] = {}

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    @property
    def subjects(self) -> frozenset[str]:
        """The subjects that the parts are of."""
        return frozenset(part.subject for part in self.parts)

    @property
    def is_located(self) -> bool:
        """Whether it is known of all voxels where they lie."""
        return all(part.views.is_located for part in self.parts)

    @property
    def has_signals(self) -> bool:
        """Whether the signals of all voxels are known, and not their latents alone."""
        return self.parts[0].views.has_signals  # of all parts or of none

    def dimensions(self, view: View) -> int:
        """How many numbers a view has of a voxel, of means where it is a Gaussian."""
        views = self.parts[0].views
        if view in ("features", "placed"):
            return views.features.shape[1] + 3 * (view == "placed")
        network = views.network
        return network.latents if view in ("q", "q_bar") else network.channels

    def check(self, views: Iterable[View]) -> None:
        """Look at what views of all voxels are made of, where it lies on the disk, for damage.

        Raises
        ------
        ModelError
            It was altered after it was written.
        """

        def look(part: Part) -> None:
            for view in wanted:
                part.views.check(view)

        wanted = frozenset(views)
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:  # hashing leaves Python to others
            list(pool.map(look, self.parts))  # listed, so that what a thread raises is raised here

    def without(self, subject: str) -> Reference:
        """Return the reference that leaves out one subject's parts.

        Raises
        ------
        InputError
            Nobody else is in the reference.
        """
        parts = [part for part in self.parts if part.subject != subject]
        if not parts:
            raise InputError(
                f"The reference holds no one but {subject}, whose own voxels cannot serve as its "
                f"reference; fit on scans of other people too."
            )
        return Reference(parts, self.weights, (self, subject))

    def blocks(self, most: int) -> list[Reference]:
        """The reference in as few blocks of at most `most` voxels as there can be.

        It is one block, itself, where so many may be together: of the whole, where a subject is
        left out of one, as that is what is indexed. Otherwise blocks begin and end where chunks do,
        so that all have the chunks of the whole, and hold at least one.
        """
        blocks: list[list[Part]] = []
        left = 0
        for piece in self._pieces():
            if len(piece) > left:
                blocks.append([])
                left = most
            blocks[-1].append(piece)
            left -= len(piece)
        indexed = self if self._whole is None else self._whole[0]
        if len(blocks) == 1 and (indexed is self or len(indexed) <= most):
            return [self]
        return [Reference(block, self.weights) for block in blocks]

    def chunks(self) -> Iterator[Views]:
        """All voxels in chunks, always the same ones: what is computed of one goes with it."""
        return (piece.views for piece in self._pieces())

    def points(self, view: PointView, room: Room = np.empty) -> Float32:
        """All voxels as seen by a view: (N, D), in an array that `room` gives."""
        points, start = np.empty((0, 0), np.float32), 0
        for chunk in self.chunks():
            some = chunk.point(view).numpy()
            if not start:
                points = room((len(self), some.shape[1]), np.float32)
            points[start : start + len(some)] = some
            start += len(some)
        return points

    def is_built(self, view: View, build: Callable[..., object]) -> bool:
        """Whether this index is there already."""
        if self._whole is not None and _is_shared(view, build):
            return self._whole[0].is_built(view, build)
        return (view, build) in self._indexes or self._take_up(view, build)

    def nearest(self, view: PointView, build: Build = NearestNeighbours) -> Finder:
        """Return the search for nearest neighbours among all voxels as seen by a view.

        It is built once, by `build` from the points (N, D), for the network's device. Where a
        subject is left out of a whole, the index of the whole serves.
        """
        if self._whole is not None and _is_shared(view, build):
            whole, subject = self._whole
            return cast(NearestNeighbours, whole.nearest(view)).without(whole._rows_of(subject))
        if not self.is_built(view, build):
            device = self.parts[0].views.network.device
            self._indexes[view, build] = build(self.points(view), device)
        return cast(Finder, self._indexes[view, build])

    def norms(self, view: PointView) -> Norms:
        """What a view is like at each place; its backgrounds are off the parts' views from then on.

        It is computed once.
        """
        if view not in self._norms:
            norms = Norms(self.parts, view, self.weights)
            self.parts = tuple(
                part.less({view: norms.less(background)})
                for part, background in zip(self.parts, norms.backgrounds, strict=True)
            )
            self._norms[view] = norms
        return self._norms[view]

    def once(self, key: object, build: Callable[[Reference, Any], Made]) -> Made:
        """What `build` makes of this reference and `key`, once."""
        if key not in self._made:
            self._made[key] = build(self, key)
        return cast(Made, self._made[key])

    def gaussians(
        self, view: GaussianView, build: Callable[[Iterator[Gaussian[Tensor]]], Trees]
    ) -> Trees:
        """Return all voxels as seen by a view, in trees.

        They are built once, by `build` from the Gaussians, in chunks (m, D).
        """
        if not self.is_built(view, build):
            self._indexes[view, build] = build(chunk.gaussian(view) for chunk in self.chunks())
        return cast(Trees, self._indexes[view, build])

    def _take_up(self, view: View, build: object) -> bool:
        """Take up the tree that was kept, if it is of this view; whether there is one."""
        if self._kept is None or view != "q_bar" or build is not NearestNeighbours:
            return False
        kept, self._kept = self._kept(), None
        if kept is None:
            return False
        self._indexes[view, build] = NearestNeighbours.by(kept)
        return True

    def _rows_of(self, subject: str) -> Int64:
        """Which voxels are a subject's: (m, 2), from one to before another."""
        ends = np.cumsum([len(part) for part in self.parts])
        rows = [
            (end - len(part), end)
            for part, end in zip(self.parts, ends, strict=True)
            if part.subject == subject
        ]
        return np.array(rows, np.int64)

    def _pieces(self) -> Iterator[Part]:
        return chain.from_iterable(part.pieces() for part in self.parts)
