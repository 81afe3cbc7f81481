"""Healthy voxels to learn from: whose they are, who is held out, and which rows are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from qspace_nd.arrays import Float32, Int64
from qspace_nd.errors import ArrayError
from qspace_nd.network.vae import VAE
from qspace_nd.scores.reference import Part
from qspace_nd.scores.views import Located, Views
from qspace_nd.system.scratch import ROWS, Rows

LEAST_OF_SCAN = 100
"""The fewest voxels, in the mean over scans, that a reference is thinned to."""


@dataclass(frozen=True)
class Healthy:
    """Healthy voxels of one scan.

    Attributes
    ----------
    subject : str
        Whose they are.
    rows : (n, C) float32 array, in memory or on the disk
        The signals, scan- and channel-normalised.
    points, features : (n, 3) and (n, K) float32 array, likewise, or None
        Where the voxels lie in the template, and what their tissue is like (`views.Located`).
    """

    subject: str
    rows: Rows
    points: Rows | None = None
    features: Rows | None = None


def as_part(healthy: Healthy, network: VAE, chosen: Int64 | None = None) -> Part:
    """Make a scan, or its `chosen` rows (m,), a part of the reference.

    It is encoded whenever it is looked at.
    """
    rows = slice(None) if chosen is None else chosen

    def views() -> Views:
        located = None
        if healthy.points is not None and healthy.features is not None:
            points, features = healthy.points[:][rows], healthy.features[:][rows]
            located = Located(torch.from_numpy(points), torch.from_numpy(features))
        return Views(network, torch.from_numpy(healthy.rows[:][rows]), located=located)

    return Part(healthy.subject, views)


def require_least(most: int | None, subjects: Sequence[str]) -> None:
    """Check that a reference of at most `most` voxels has some of each scan's subject.

    Raises
    ------
    ArrayError
        They are fewer than `LEAST_OF_SCAN` for each scan.
    """
    least = LEAST_OF_SCAN * len(subjects)
    if most is not None and most < least:
        raise ArrayError(
            f"A reference of {most:,} voxels is wanted; {least:,} or more are needed, "
            f"{LEAST_OF_SCAN} for each of {len(subjects)} scans."
        )


def reference_parts(
    healthy: Sequence[Healthy], network: VAE, most: int | None, seed: int
) -> list[Part]:
    """Make scans the parts of a reference, of `most` voxels where they have more.

    These are drawn at random, as many of each subject (`draw`).
    """
    if most is None or most >= sum(len(one.rows) for one in healthy):
        return [as_part(one, network) for one in healthy]
    pieces = [Piece(one.subject, one.rows, 0, len(one.rows)) for one in healthy]
    drawn = draw(pieces, most, seed)
    return [as_part(one, network, chosen) for one, chosen in zip(healthy, drawn, strict=True)]


@dataclass(frozen=True)
class Piece:
    """Rows of a subject's array that lie together: those from `start` to before `stop`."""

    subject: str
    rows: Rows
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def hold_out(
    healthy: Sequence[Healthy], share: float, seed: int
) -> tuple[list[Piece], list[Piece]]:
    """Split healthy voxels into those to train on and those to choose the weights by.

    Whole subjects are held out, at least one; with a single subject the last `share` of its rows,
    which for a scan are a block of neighbouring slices.

    Returns
    -------
    list of Piece, list of Piece
        For training and for validation, in the order of `healthy`.
    """
    held_out = held_out_subjects([part.subject for part in healthy], share, seed)
    total = sum(len(part.rows) for part in healthy)
    left = min(max(1, round(total * (1.0 - share))), total - 1)  # of a single subject
    training, validation = [], []
    for part in healthy:
        rows = len(part.rows)
        if held_out:
            first = 0 if part.subject in held_out else rows
        else:
            first = min(left, rows)
            left -= first
        training.append(Piece(part.subject, part.rows, 0, first))
        validation.append(Piece(part.subject, part.rows, first, rows))
    return training, validation


def held_out_subjects(subjects: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """The subjects that are held out: none where there is only one."""
    names = sorted(set(subjects))
    if len(names) == 1:
        return frozenset()
    number = min(max(1, round(len(names) * share)), len(names) - 1)
    chosen = np.random.default_rng(seed).permutation(len(names))[:number]
    return frozenset(names[index] for index in chosen)


def draw(pieces: Sequence[Piece], most: int, seed: int) -> list[Int64]:
    """Draw at most `most` rows at random, as many of each subject and of each of their scans.

    Where one has fewer, more are drawn of the others.

    Returns
    -------
    list of (m,) array
        The rows that are drawn of each piece, ascending, counted from the piece's start.
    """
    random = np.random.default_rng(seed)
    lengths: dict[str, list[int]] = {}
    for piece in pieces:
        lengths.setdefault(piece.subject, []).append(len(piece))
    shares = _even([sum(own) for own in lengths.values()], most)
    of_subject = {
        subject: iter(_even(own, share))
        for (subject, own), share in zip(lengths.items(), shares, strict=True)
    }
    drawn = []
    for piece in pieces:
        number = next(of_subject[piece.subject])
        drawn.append(np.sort(random.choice(len(piece), number, replace=False)))
    return drawn


def spread(pieces: Sequence[Piece], most: int) -> list[Int64]:
    """Choose at most `most` rows, evenly spread over the pieces one after the other: as `draw`."""
    step = -(-sum(map(len, pieces)) // most)
    chosen, start = [], 0
    for piece in pieces:
        chosen.append(np.arange(-start % step, len(piece), step))
        start += len(piece)
    return chosen


def collect(pieces: Sequence[Piece], chosen: Sequence[Int64]) -> Iterator[Float32]:
    """The chosen rows of pieces, some at a time, in their order."""
    for piece, numbers in zip(pieces, chosen, strict=True):
        for start in range(0, len(piece), ROWS):
            some = numbers[slice(*np.searchsorted(numbers, [start, start + ROWS]))]
            stop = min(piece.start + start + ROWS, piece.stop)
            if len(some):
                yield piece.rows[piece.start + start : stop][some - start]


def _even(lengths: Sequence[int], most: int) -> list[int]:
    """Share a draw of `most` rows out evenly: so many from each, but none beyond its length.

    What a short one cannot give, the longer ones give. All are drawn where `most` is more.
    """
    shares = [0] * len(lengths)
    left = min(most, sum(lengths))
    # From the shortest to the longest: what one cannot give is shared among those after it.
    for done, index in enumerate(np.argsort(lengths, kind="stable")):
        shares[index] = min(lengths[index], left // (len(lengths) - done))
        left -= shares[index]
    return shares
