"""Calibrating a model: what novelty its healthy people have, each left out in turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qspace_nd.arrays import Float32
from qspace_nd.calibration.null import LEAST_SUBJECTS, require_enough
from qspace_nd.errors import InputError
from qspace_nd.model import store
from qspace_nd.model.calibrating import gathered, left_out
from qspace_nd.model.knowledge import change_of
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured
from qspace_nd.model.rows import Healthy, as_part
from qspace_nd.progress import Progress, timed, watcher
from qspace_nd.scores.reference import Part
from qspace_nd.system.machine import Machine
from qspace_nd.system.sharing import HERE, Each
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.map_one import load_model
from qspace_nd.workflows.runners import ALONE, Crew
from qspace_nd.workflows.settings import MapSettings
from qspace_nd.workflows.verdict import healthy_shares, report_people, told

_log = logging.getLogger(__name__)


def calibrate_model(
    folder: str | Path,
    settings: MapSettings = MapSettings(),
    *,
    machine: Machine = Machine(),
    crew: Crew = ALONE,
    progress: Progress | bool = False,
) -> None:
    """Map every healthy person of the model in `folder` by the others, and keep that in it.

    From then on `map` says what maps made by the same scores mean. What was found before by the
    same is replaced.

    Parameters
    ----------
    folder : str or Path
        Of the model.
    settings : MapSettings
        The scores, and what they are told.
    machine : Machine
    crew : Crew
        Who maps the people: `ALONE`, this process, or a `DaskCrew`.
    progress : Progress or bool
        True to show bars.

    Raises
    ------
    InputError
        The model is of fewer than four people, or has not what a score needs; nothing was written.
    """
    folder, watching = Path(folder), watcher(progress)
    facts = ModelFacts.read(folder)
    require_enough([scan.subject for scan in facts.acquisition.scans])
    require_all_voxels(facts, "is calibrated")
    if settings.approximate:
        raise InputError("Healthy people's maps are found exactly; leave the approximate search.")
    if settings.toward is not None:
        change_of(settings.toward, facts.acquisition)
    if settings.needs_place and not facts.has_template:
        raise InputError(
            f"The model in {folder} has no template, which {settings.scores[0]} needs; fit it "
            f"again on scans of four people or more."
        )
    wanted = list(settings.measured(facts.neighbours).values())
    with store.writing(folder), machine.limited():
        model = NoveltyModel.load(folder, machine.device)
        if model.grids_ is None:
            raise InputError(
                f"The model in {folder} does not know where its voxels lie in their scans, as "
                f"models of before did not; fit it again."
            )
        with crew.together(len(model.reference_.parts)) as each:
            keep_nulls(model, folder, wanted, machine.memory, watching, each=each)
        report_shares(model, wanted)


def require_all_voxels(facts: ModelFacts, done: str) -> None:
    """Check that the reference of a model holds all voxels of its healthy scans.

    Raises
    ------
    InputError
        It does not, and what cannot be `done` to it for that.
    """
    if facts.voxels < facts.learned:
        raise InputError(
            f"The model in {facts.folder} holds {facts.voxels:,} of its healthy scans' "
            f"{facts.learned:,} "
            f"voxels (fit --reference), and {done} by whole scans alone, which fit has; fit it "
            f"again."
        )


def keep_nulls(
    model: NoveltyModel,
    folder: Path,
    wanted: Sequence[Measured],
    memory: int | None,
    progress: Progress,
    people: Sequence[Healthy] | None = None,
    each: Each = HERE,
) -> None:
    """Calibrate a model that was read from `folder`, and write what was found there.

    `people` are the voxels of its healthy scans, where its reference may hold some of them alone.
    """
    parts: Sequence[Part] = model.reference_.parts
    work: Callable[[Any], list[Float32]] = partial(left_out, model, wanted=wanted, memory=memory)
    items: Sequence[Any] = parts if people is None else [as_part(p, model.network_) for p in people]
    if each.elsewhere is not None:
        work = partial(_left_out_there, ModelFacts.read(folder), wanted, each.elsewhere)
        items = range(len(parts)) if people is None else people
    with timed("Calibrating"):
        model.compare_with(gathered(wanted, each(work, items), len(parts), progress))
    nulls, summaries = (
        {measured: one[measured] for measured in wanted} for one in (model.nulls_, model.summaries_)
    )
    model.digest_ = store.add_nulls(folder, model.digest_, nulls, summaries)


def _left_out_there(
    facts: ModelFacts, wanted: Sequence[Measured], machine: Machine, person: Healthy | int
) -> list[Float32]:
    """Find the novelty of a healthy scan in another process, which reads the model once."""
    model = load_model(facts, machine.device)
    part = (
        model.reference_.parts[person]
        if isinstance(person, int)
        else as_part(person, model.network_)
    )
    return left_out(model, part, wanted, machine.memory)


def are_enough(model: NoveltyModel) -> bool:
    """Whether a model is of people enough to be calibrated; says so where it is not."""
    people = len(model.reference_.subjects)
    if people >= LEAST_SUBJECTS and model.grids_ is not None:
        return True
    _log.info(
        f"Maps will have no p-values and no clusters, as the model is of {people} people: "
        f"{LEAST_SUBJECTS} or more are wanted for that"
    )
    return False


def report_shares(model: NoveltyModel, wanted: Sequence[Measured]) -> None:
    """Say of each score how alike the healthy people are by it."""
    for measured in wanted:
        shares = healthy_shares(model, measured)
        _log.info(f"{measured.score}: left-out controls have {told(shares, measured.score)}")
        report_people(model.acquisition_, shares)
