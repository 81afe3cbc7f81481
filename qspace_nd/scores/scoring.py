"""Scoring voxels by several rules at once, and a block of the reference at a time if need be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float32
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.base import Score, Search
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Views
from qspace_nd.searching.approximate import recall
from qspace_nd.searching.nearest import by_all_pairs, by_lists
from qspace_nd.system.memory import remaining

_CHUNK = 65_536  # voxels scored at once


def score(
    rules: Mapping[str, Score],
    voxels: Views,
    healthy: Reference,
    memory: int | None = None,
    progress: Progress = SILENT,
) -> dict[str, Float32]:
    """Novelty of n voxels by each of several rules: (n,), higher is more novel.

    Parameters
    ----------
    rules : mapping of str to Score
        The rules, each under a name that its result is given under.
    voxels : Views (n)
        The voxels.
    healthy : Reference
        What they are compared with.
    memory : int, optional
        Bytes that the process may use; by default three quarters of what is available.
    """
    novelty = {name: np.empty(len(voxels), np.float32) for name in rules}
    for name, found in _look(rules, voxels, healthy, memory, progress).items():
        for rows, some in zip(_chunks(len(voxels)), found, strict=True):
            novelty[name][rows] = _concluded(rules[name], some, len(healthy))
    return novelty


def recall_of(rule: Nearest, voxels: Views, healthy: Reference, memory: int | None = None) -> float:
    """Share of the true nearest of n voxels that an approximate search finds.

    The parameters are those of `score`.
    """
    rules: dict[str, Score] = {
        "found": rule.with_search(by_lists),
        "nearest": rule.with_search(by_all_pairs),
    }
    found = _look(rules, voxels, healthy, memory, SILENT)
    return recall(*(np.concatenate(found[name]) for name in ("found", "nearest")))


def _look(
    rules: Mapping[str, Score],
    voxels: Views,
    healthy: Reference,
    memory: int | None,
    progress: Progress,
) -> dict[str, list[NDArray[Any]]]:
    """What each rule finds of the voxels, before it is concluded: chunks of (n, ...)."""
    searches = [rule for rule in rules.values() if isinstance(rule, Search)]
    voxels.q  # noqa: B018  once for all blocks
    blocks = _blocks(searches, healthy, memory)
    steps = len(rules) + len(searches) * (len(blocks) - 1)
    found: dict[str, list[NDArray[Any]]] = {name: [] for name in rules}
    with progress.task("Scoring voxels", len(voxels) * steps) as task:
        while blocks:
            block = blocks.pop(0)  # so that a block's indexes go before the next one's are built
            for number, rows in enumerate(_chunks(len(voxels))):
                chunk = voxels[rows]
                for name, rule in rules.items():
                    before = found[name]
                    if number == len(before):
                        before.append(_found(rule, chunk, block))
                    elif isinstance(rule, Search):
                        before[number] = rule.join(before[number], rule.look(chunk, block))
                    else:
                        continue
                    task.advance(len(chunk), note=name)
    return found


def _blocks(searches: Sequence[Search], healthy: Reference, memory: int | None) -> list[Reference]:
    """The reference in blocks whose indexes, of all searches together, fit into memory."""
    index_bytes: dict[str, int] = {}
    for search in searches:
        index_bytes |= search.index_bytes(healthy)
    each = sum(index_bytes.values())
    return healthy.blocks(remaining(memory) // each) if each else [healthy]


def _chunks(number: int) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, number, _CHUNK)]


def _found(rule: Score, voxels: Views, block: Reference) -> NDArray[Any]:
    return rule.look(voxels, block) if isinstance(rule, Search) else rule(voxels, block)


def _concluded(rule: Score, found: NDArray[Any], number: int) -> NDArray[Any]:
    return rule.conclude(found, number) if isinstance(rule, Search) else found
