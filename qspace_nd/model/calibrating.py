"""Measuring the healthy people of a model: the novelty of each, left out of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qspace_nd.arrays import Float32
from qspace_nd.calibration.null import require_enough
from qspace_nd.model.nulls import Arrays, Measured, null_arrays
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.reference import Part

if TYPE_CHECKING:
    from qspace_nd.model.novelty_model import NoveltyModel


def measure(
    model: NoveltyModel,
    people: Sequence[Part],
    wanted: Sequence[Measured],
    memory: int | None = None,
    progress: Progress = SILENT,
) -> dict[Measured, Arrays]:
    """Find the novelty of every healthy voxel, the own subject's left out of the reference.

    Parameters
    ----------
    model : NoveltyModel
        A fitted one.
    people : sequence of Part
        The voxels of each healthy scan, all of them.
    wanted : sequence of Measured
        By what; all of a scan are found at once.
    memory : int, optional
        Bytes that the process may use.

    Raises
    ------
    InputError
        The model is of too few people, or cannot give a score.
    """
    require_enough([part.subject for part in people])
    found: dict[Measured, list[Float32]] = {measured: [] for measured in wanted}
    with progress.task("Mapping healthy people", len(people) * len(wanted)) as task:
        for part in people:
            views = part.views
            views.seed = model.seed
            for measured in wanted:
                novelties = model.novelties(
                    views,
                    [measured.score],
                    leave_out=part.subject,
                    neighbours=measured.neighbours,
                    toward=measured.toward,
                    memory=memory,
                )
                found[measured].append(novelties[measured.score])
                task.advance()
    return {measured: null_arrays(novelties) for measured, novelties in found.items()}
