from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import ModelError
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.progress import Progress
from qspace_nd.system.machine import Machine
from qspace_nd.workflows import map_one as mapping
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.jobs import Ended, MapJob, ModelFacts
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.map_one import load_model
from qspace_nd.workflows.runners import Work, in_turn
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import CONTROLS, MODEL, NOVELTY, PATIENT, tree_of

pytestmark = pytest.mark.usefixtures("inside")


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test find a model that another has read."""
    monkeypatch.setattr(mapping, "_kept", {})


def spawned(work: Work, jobs: Sequence[MapJob], progress: Progress) -> Iterator[Ended]:
    """Do jobs in another process, which begins with nothing."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for future, job in [(pool.submit(work, job), job) for job in jobs]:
            future.result()
            yield Ended(job)


def test_a_job_that_is_sent_to_another_process_gives_the_same_files() -> None:
    settings = MapSettings(["latent-distance", "recon-error-qhat"], 3, smooth=12.0)
    scans, machine = [PATIENT, CONTROLS[0]], Machine("cpu", threads=1)
    map_scans(scans, MODEL, "here", settings, machine=machine)
    map_scans(scans, MODEL, "there", settings, machine=machine, runner=spawned)
    assert len(tree_of(Path("here"))) == 2 * (2 * (2 * 2 + 1) + 1)
    assert tree_of(Path("here")) == tree_of(Path("there"))


def test_a_job_is_small() -> None:
    def look(work: Work, jobs: Sequence[MapJob], progress: Progress) -> Iterator[Ended]:
        (job,) = jobs
        again = pickle.loads(pickle.dumps(job))
        assert again.stamp() == job.stamp()
        assert len(pickle.dumps((work, job))) < 20_000
        return in_turn(work, [again], progress)

    map_scans([PATIENT], MODEL, "map.nii.gz", runner=look)
    assert Path("map.nii.gz").read_bytes() == NOVELTY.read_bytes()


def test_a_model_is_read_once_for_all_scans_and_from_wherever(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    read: list[str] = []
    load = NoveltyModel.load

    def listen(folder: Path, device: str) -> NoveltyModel:
        read.append(device)
        return load(folder, device)

    monkeypatch.setattr(NoveltyModel, "load", listen)
    map_scans([PATIENT, CONTROLS[0]], MODEL, "maps")
    model = MODEL.absolute()
    scan = PATIENT.absolute()
    monkeypatch.chdir(tmp_path)
    map_scans([scan], model, "map.nii.gz")
    assert read == ["auto"]
    map_scans([scan], model, "map.nii.gz", machine=Machine("cpu"), force=True)
    assert read == ["auto", "cpu"]


def test_a_model_that_is_replaced_is_read_anew_and_an_old_job_refused() -> None:
    facts = ModelFacts.read(MODEL)
    old = load_model(facts)
    assert load_model(facts) is old
    fit_scans(CONTROLS, NoveltyModel(epochs=1, seed=1), MODEL, force=True)
    new = load_model(ModelFacts.read(MODEL))
    assert new.seed == 1
    with pytest.raises(ModelError, match="was replaced by another meanwhile; map the scans again"):
        load_model(facts)


@pytest.mark.parametrize("settings", [{}, {"preset": "paper"}, {"neighbours": 4}])
def test_the_index_alone_tells_the_models_number_of_neighbours(settings: dict) -> None:
    fit_scans(CONTROLS, NoveltyModel(epochs=1, **settings), "other")
    assert ModelFacts.read(Path("other")).neighbours == NoveltyModel.load("other").neighbours_


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    map_scans([PATIENT], MODEL, "map.nii.gz", machine=Machine(threads=before + 1))
    assert torch.get_num_threads() == before
    np.testing.assert_equal(Path("map.nii.gz").read_bytes(), NOVELTY.read_bytes())
