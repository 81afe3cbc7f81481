"""A model made by Dask's workers is that of one process, whatever happens to the workers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qspace_nd.arrays import Float64
from qspace_nd.errors import ScanError, WorkError
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.registration.images import Images, moved
from qspace_nd.registration.places import Registration, residual
from qspace_nd.system.machine import Machine
from qspace_nd.system.sharing import Each
from qspace_nd.workflows.calibrate import calibrate_model
from qspace_nd.workflows.clusters import Local, SchedulerFile
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.runners import ALONE, Crew
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import Heard, of_extra, tiny_cohort, tree_of
from tests.workflows.test_dask_runner import spoil, started

of_extra("distributed")

HEALTHY = [Path(f"healthy/control-0{number}.nii.gz") for number in range(1, 5)]
HERE = Machine("cpu", threads=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    tiny_cohort(folder, controls=4, layout="flat")
    return folder


@pytest.fixture(autouse=True)
def _inside(cohort: Path, tmp_path: Path) -> Iterator[None]:
    """Every test works in a folder of its own, with the scans."""
    shutil.copytree(cohort, tmp_path / "study")
    with chdir(tmp_path / "study"):
        yield


@pytest.fixture(scope="module")
def two() -> Iterator[Each]:
    """Two workers for all tests, as to start them takes a while."""
    from qspace_nd.workflows.dask_runner import DaskCrew

    with DaskCrew(Local(2), HERE).together(2) as each:
        yield each


@dataclass(frozen=True)
class These:
    """A crew that is there already, whose work is wrapped."""

    each: Each
    wrap: Callable[[Any], Any] = lambda work: work

    @property
    def elsewhere(self) -> Machine | None:
        return self.each.elsewhere

    def together(self, items: int) -> AbstractContextManager[Each]:
        return nullcontext(self)

    def __call__(
        self, work: Any, items: Iterable[Any], *, by_threads: bool = False
    ) -> Iterator[Any]:
        return self.each(self.wrap(work), items, by_threads=by_threads)


def middles(images: Images, target: Images) -> Float64:
    """Align brains by their middles: how well is tested where registration is."""
    middle, there = (moved(np.argwhere(one.mask), one.affine).mean(0) for one in (images, target))
    affine = np.eye(4)
    affine[:3, 3] = there - middle
    return affine


def by_middles(
    images: Images, template: Images, *, among: int = 0, affine: Float64 | None = None
) -> Registration:
    found = Registration(middles(images, template) if affine is None else affine, None)
    return replace(found, residual=residual(images, template, found, among))


def register_by_middles(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("qspace_nd.registration.template.align", middles)
    for module in ("registration.template", "workflows.placing"):
        patch.setattr(f"qspace_nd.{module}.register", by_middles)


@dataclass(frozen=True)
class _Fatal:
    """Work that registers in a moment, and whose process is killed once while it reads or maps."""

    work: Any
    markers: Path

    def __call__(self, item: object) -> object:
        from qspace_nd.workflows import calibrate, healthy_scans

        def die(marker: Path, do: Any, *what: Any, **how: Any) -> Any:
            try:
                marker.touch(exist_ok=False)
            except FileExistsError:  # the other worker was the first
                return do(*what, **how)
            os.kill(os.getpid(), signal.SIGKILL)

        with pytest.MonkeyPatch.context() as patch:
            register_by_middles(patch)
            for module, name in ((healthy_scans, "see"), (calibrate, "left_out")):
                do = getattr(module, name)
                patch.setattr(module, name, partial(die, self.markers / name, do))
            return self.work(item)


def fit(folder: str, crew: Crew = ALONE, scans: Iterable[Path] = HEALTHY, **settings: Any) -> None:
    model = NoveltyModel(epochs=1, reference=settings.pop("reference", None))
    fit_scans(scans, model, folder, machine=HERE, crew=crew, **{"template": False} | settings)


def test_workers_that_are_killed_while_they_read_and_map_change_no_file(
    two: Each, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    register_by_middles(monkeypatch)
    heard, alone = Heard(), Heard()
    fit("here", template=True, progress=alone)
    fit("there", These(two, partial(_Fatal, markers=tmp_path)), template=True, progress=heard)
    assert tree_of(Path("here")) == tree_of(Path("there"))
    assert {path.name for path in tmp_path.iterdir()} == {"study", "see", "left_out"}
    assert caplog.text.count("was lost; what it did goes to another") == 2
    assert (heard.names, heard.steps) == (alone.names, alone.steps)


def test_workers_fit_and_calibrate_as_one_process_does_and_say_the_same(
    two: Each, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "qspace_nd")
    for mask in Path("healthy").glob("*01_mask.nii.gz"):
        mask.unlink()  # one is computed, which is told of
    settings, said = MapSettings(["input-distance"]), {}
    for name, crew in {"here": ALONE, "there": These(two)}.items():
        caplog.clear()
        fit(name, crew, reference=2000)
        fit(f"{name}-all", crew)
        calibrate_model(f"{name}-all", settings, machine=HERE, crew=crew)
        said[name] = [text.replace(name, "") for text in caplog.messages]
        assert not list(Path(name).glob(".*"))
    assert tree_of(Path("here")) == tree_of(Path("there"))
    assert tree_of(Path("here-all")) == tree_of(Path("there-all"))
    assert len(NoveltyModel.load("there-all").nulls_) == 2
    assert said["here"] == said["there"]
    assert any("had no brain mask" in text for text in said["there"])


def test_a_scan_that_cannot_be_read_ends_it_and_nothing_is_left(two: Each) -> None:
    scans = [*HEALTHY[:3], spoil(HEALTHY[3])]
    before = tree_of(Path())
    with pytest.raises(ScanError, match=r"bad\.nii\.gz"):
        fit("new", These(two), scans)
    assert tree_of(Path()) == before


def test_a_worker_that_does_not_see_the_folder_of_the_model_says_so(two: Each) -> None:
    @contextmanager
    def elsewhere(items: int) -> Iterator[Each]:
        yield These(two, lambda work: partial(_without_scratch, work))

    crew = These(two)
    object.__setattr__(crew, "together", elsewhere)
    with pytest.raises(WorkError, match=r"does not see the folder /.*new/\.scratch; workers need"):
        fit("new", crew)
    assert not Path("new").exists()


def _without_scratch(work: Any, item: object) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "is_dir", lambda _: False)
        return work(item)


@pytest.mark.parametrize("reading", [True, False])
def test_when_the_scheduler_is_lost_a_sentence_says_so_and_what_is_there(
    reading: bool, tmp_path: Path
) -> None:
    from qspace_nd.workflows.dask_runner import DaskCrew

    file = tmp_path / "scheduler.json"
    named = ("--scheduler-file", str(file))
    worker = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--host", "127.0.0.1")
    with (
        started("distributed.cli.dask_scheduler", "--host", "127.0.0.1:0", *named) as scheduler,
        started("distributed.cli.dask_worker", *worker, *named),
    ):
        while not file.exists():
            time.sleep(0.1)

        class Lost(These):
            def __call__(self, *work: Any, **how: Any) -> Iterator[Any]:
                for made in self.each(*work, **how):
                    yield made
                    if reading:
                        scheduler.kill()
                scheduler.kill()  # nothing is on its way then

        class Losing(DaskCrew):
            @contextmanager
            def together(self, items: int) -> Iterator[Each]:
                with super().together(items) as each:
                    yield Lost(each)

        with pytest.raises(WorkError, match=r"r at tcp.* was lost; start again .*\.$") as ended:
            fit("new", Losing(SchedulerFile(file), HERE))
    assert Path("new").exists() == ("The model is in new and is not cal" in str(ended.value))
    assert Path("new").exists() == (not reading)
    if not reading:
        calibrate_model("new", machine=HERE)
        fit("here")
        assert tree_of(Path("here")) == tree_of(Path("new"))
