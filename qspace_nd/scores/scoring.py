"""Scoring voxels by several rules at once, and a block of the reference at a time if need be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qspace_nd.arrays import Float32
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.base import Score, Search
from qspace_nd.scores.nearest import Nearest
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import PointView, Views
from qspace_nd.searching.approximate import recall
from qspace_nd.searching.nearest import by_all_pairs, by_lists
from qspace_nd.system.memory import remaining

_CHUNK = 65_536  # voxels scored at once
_NUMBERS = 2**24  # of voxels searched for at once by one index: the more, the closer together


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
    voxels = _less_backgrounds(rules.values(), voxels, healthy)
    terms = {term: name for name, rule in rules.items() for term in rule.terms}
    looked = _look(terms, voxels, healthy, memory, progress)
    found = {
        term: np.concatenate([np.empty(0), *(_concluded(term, one, len(healthy)) for one in some)])
        for term, some in looked.items()
    }
    return {name: rule.of_terms(found).astype(np.float32) for name, rule in rules.items()}


def _less_backgrounds(rules: Iterable[Score], voxels: Views, healthy: Reference) -> Views:
    """The voxels, less the backgrounds that rules do without; the healthy ones' too."""
    for view in sorted(frozenset[PointView]().union(*(rule.rests for rule in rules))):
        norms = healthy.norms(view)
        voxels = voxels.less({view: norms.less(norms.background_of(voxels))})
    return voxels


def recall_of(rule: Nearest, voxels: Views, healthy: Reference, memory: int | None = None) -> float:
    """Share of the true nearest of n voxels that an approximate search finds.

    The parameters are those of `score`.
    """
    rules: dict[Score, str] = {
        rule.with_search(by_lists): "found",
        rule.with_search(by_all_pairs): "nearest",
    }
    found = _look(rules, voxels, healthy, memory, SILENT)
    return recall(*map(np.concatenate, found.values()))


def _look(
    rules: Mapping[Score, str],
    voxels: Views,
    healthy: Reference,
    memory: int | None,
    progress: Progress,
) -> dict[Score, list[NDArray[Any]]]:
    """What each rule, told of by its name, finds before it is concluded: chunks of (n, ...)."""
    searches = [rule for rule in rules if isinstance(rule, Search)]
    voxels.q  # noqa: B018  once for all blocks
    blocks = _blocks(searches, healthy, memory)
    steps, whole = len(rules) + len(searches) * (len(blocks) - 1), len(blocks) == 1
    found: dict[Score, list[NDArray[Any]]] = {rule: [] for rule in rules}
    with progress.task("Scoring voxels", len(voxels) * steps) as task:
        while blocks:
            block = blocks.pop(0)  # so that a block's indexes go before the next one's are built
            for number, rows, some in _chunks(rules, len(voxels), healthy, whole=whole):
                chunk = voxels[rows]
                for rule in some:
                    name, before = rules[rule], found[rule]
                    task.advance(0, note=name)
                    if not isinstance(rule, Search):
                        if number == len(before):
                            before.append(rule(chunk, healthy))
                            task.advance(len(chunk))
                    elif number == len(before):
                        before.append(rule.look(chunk, block, None, task.advance))
                    else:
                        more = rule.look(chunk, block, before[number], task.advance)
                        before[number] = rule.join(before[number], more)
    return found


def _blocks(searches: Sequence[Search], healthy: Reference, memory: int | None) -> list[Reference]:
    """The reference in blocks whose indexes, of all searches together, fit into memory."""
    index_bytes: dict[str, int] = {}
    for search in searches:
        index_bytes |= search.index_bytes(healthy)
    each = sum(index_bytes.values())
    return healthy.blocks(remaining(memory) // each) if each else [healthy]


def _chunks(
    rules: Iterable[Score], voxels: int, healthy: Reference, *, whole: bool
) -> Iterator[tuple[int, slice, list[Score]]]:
    """The chunks in which voxels are scored: which one it is, its rows, and by which rules."""
    sizes: dict[int, list[Score]] = {}
    for rule in rules:
        size = _CHUNK
        if isinstance(rule, Nearest):
            numbers = _NUMBERS if whole else _NUMBERS // 8  # memory is scarce
            size = max(size, numbers // healthy.dimensions(rule.healthy_view))
        sizes.setdefault(size, []).append(rule)
    for size, some in sizes.items():
        for number, start in enumerate(range(0, voxels, size)):
            yield number, slice(start, start + size), some


def _concluded(rule: Score, found: NDArray[Any], number: int) -> NDArray[Any]:
    return rule.conclude(found, number) if isinstance(rule, Search) else found
