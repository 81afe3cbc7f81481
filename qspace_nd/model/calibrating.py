"""Measuring the healthy people of a model: the novelty of each, left out of the reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qspace_nd.arrays import Float32
from qspace_nd.model.nulls import Arrays, Measured, null_arrays
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.reference import Part

if TYPE_CHECKING:
    from qspace_nd.model.novelty_model import NoveltyModel


def left_out(
    model: NoveltyModel, person: Part, wanted: Sequence[Measured], memory: int | None = None
) -> list[Float32]:
    """Find the novelty (n,) of a healthy scan, its subject's own left out of the reference.

    Parameters
    ----------
    model : NoveltyModel
        A fitted one.
    person : Part
        The voxels of the scan, all of them.
    wanted : sequence of Measured
        By what.
    memory : int, optional
        Bytes that the process may use.

    Raises
    ------
    InputError
        The model cannot give a score.
    """
    views = person.views
    views.seed = model.seed
    return [
        model.novelties(
            views,
            [measured.score],
            leave_out=person.subject,
            neighbours=measured.neighbours,
            toward=measured.toward,
            memory=memory,
        )[measured.score]
        for measured in wanted
    ]


def gathered(
    wanted: Sequence[Measured],
    novelties: Iterable[Sequence[Float32]],
    people: int,
    progress: Progress = SILENT,
) -> dict[Measured, Arrays]:
    """Gather what `left_out` finds of each of so many healthy scans, by what is wanted."""
    found: list[Sequence[Float32]] = []
    with progress.task("Mapping healthy people", people * len(wanted)) as task:
        for one in novelties:
            found.append(one)
            task.advance(len(wanted))
    return {
        one: null_arrays([novelty[place] for novelty in found]) for place, one in enumerate(wanted)
    }
