"""Models that hold some of the healthy voxels alone, or no signals of them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import ArrayError, InputError, WorkError
from qspace_nd.model import store
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.add import add_scans
from qspace_nd.workflows.calibrate import calibrate_model
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.report import report_maps
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import MODEL, PATIENT, tiny_cohort

HEALTHY = [f"healthy/control-0{number}.nii.gz" for number in range(1, 6)]
MOST = 900
NO_SIGNALS = r"saved without the healthy voxels' signals, which {} reads; fit it again with them"


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A flat cohort; a model of four controls, one of `MOST` of their voxels, one less signals."""
    folder = tmp_path_factory.mktemp("reference")
    tiny_cohort(folder, controls=5, layout="flat")
    with chdir(folder):
        for name, how in (
            (str(MODEL), {}),
            ("some", {"signals": False}),
            ("latents", {"signals": False}),
        ):
            most = MOST if name == "some" else None
            model = NoveltyModel(epochs=1, reference=most)
            fit_scans(HEALTHY[:4], model, name, template=False, **how)
        yield folder


def index_of(model: str | Path) -> dict[str, object]:
    return dict(json.loads((Path(model) / store.INDEX).read_text()))


def test_a_reference_is_drawn_evenly_and_calibrated_by_whole_scans(inside: Path) -> None:
    whole, some = NoveltyModel.load(MODEL), NoveltyModel.load("some")
    assert [len(part) for part in some.reference_.parts] == [MOST // 4] * 4
    for few, all_ in zip(some.reference_.parts, whole.reference_.parts, strict=True):
        latents = {tuple(row) for row in all_.views.q_bar.tolist()}
        assert {tuple(row) for row in few.views.q_bar.tolist()} <= latents
    people = zip(whole.null().maps, some.null().maps, strict=True)
    for mine, theirs in people:
        assert len(mine.novelty) == len(theirs.novelty)
        assert (mine.novelty <= theirs.novelty + 1e-6).all()  # of more voxels some are nearer
    assert whole.digest_ != some.digest_


def test_a_map_by_some_voxels_says_what_it_means_too(inside: Path) -> None:
    (files,) = map_scans([PATIENT], "some", "some.nii.gz")
    facts = json.loads(Path("some.json").read_text())
    assert facts["HealthyPeople"] == 4
    assert files.clusters["latent-distance"].is_file()
    mask = nib.load(files.mask).get_fdata() > 0
    model = NoveltyModel.load("some")
    points = np.concatenate([part.views.q_bar.numpy() for part in model.reference_.parts])
    map_scans([PATIENT], MODEL, "all.nii.gz")
    (all_, some) = (nib.load(name).get_fdata()[mask] for name in ("all.nii.gz", "some.nii.gz"))
    assert len(points) == MOST
    assert (some >= all_ - 1e-6).all()
    assert (some > all_).any()


def test_the_methods_tell_of_how_many_voxels_the_reference_is(inside: Path) -> None:
    map_scans([PATIENT], "some", "told.nii.gz")
    report_maps(["told.nii.gz"], "some", "methods")
    text = " ".join(Path("methods/methods.md").read_text().split())
    learned = sum(len(part) for part in NoveltyModel.load(MODEL).reference_.parts)
    assert f"of {learned:,} voxels of 4 healthy people, of which 900, drawn at random" in text


def test_what_it_costs_is_told(inside: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = NoveltyModel(epochs=1, reference=MOST)
        fit_scans(HEALTHY[:4], model, "told", template=False, calibrate=False)
    history = model.history_
    assert history.altered_auc_of_all is not None
    assert f"by 900 healthy voxels, by all of them with {history.altered_auc_of_all:.2f}" in (
        caplog.text
    )
    assert NoveltyModel.load(MODEL).history_.altered_auc == history.altered_auc_of_all


def test_what_needs_whole_scans_is_refused(inside: Path) -> None:
    with pytest.raises(InputError, match=r"holds 900 of its healthy scans' .* calibrated by whole"):
        calibrate_model("some", MapSettings("latent-kl"))
    with pytest.raises(InputError, match=r"and scans are added by whole scans alone"):
        add_scans(HEALTHY[4:], "some")


@pytest.mark.parametrize("most", [1, 399])
def test_a_reference_of_hardly_any_voxels_is_refused(most: int, inside: Path) -> None:
    with pytest.raises(ArrayError, match=f"of {most} voxels is wanted; 400 or more are needed"):
        fit_scans(HEALTHY[:4], NoveltyModel(reference=most), "none")
    assert not Path("none").exists()


def test_without_signals_the_map_is_the_same(inside: Path) -> None:
    maps = []
    for model in (MODEL, "latents"):
        map_scans([PATIENT], model, f"by-{Path(model).name}.nii.gz")
        maps.append(nib.load(f"by-{Path(model).name}.nii.gz").get_fdata())
    np.testing.assert_array_equal(*maps)
    (mine, theirs) = (NoveltyModel.load(model).null().maps for model in (MODEL, "latents"))
    for one, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(one.novelty, other.novelty)
    size = [sum(index_of(model)["files"].values()) for model in (MODEL, "latents")]  # type: ignore[attr-defined]
    assert size[1] < 0.75 * size[0]


@pytest.mark.parametrize(
    ("settings", "reads"),
    [
        (MapSettings("input-distance"), "the score input-distance"),
        (MapSettings("latent-distance", explain=True), "what explains maps"),
    ],
)
def test_what_reads_signals_is_refused_without_them(
    settings: MapSettings, reads: str, inside: Path
) -> None:
    with pytest.raises(InputError, match=NO_SIGNALS.format(reads)):
        map_scans([PATIENT], "latents", "refused.nii.gz", settings)
    assert not Path("refused.nii.gz").exists()


def test_scans_are_added_and_healthy_people_measured_without_signals(inside: Path) -> None:
    add_scans(HEALTHY[4:], "latents")
    parts = index_of("latents")["reference"]
    assert [set(part["arrays"]) for part in parts] == [{"q_mean", "q_std"}] * 5  # type: ignore[attr-defined]
    calibrate_model("latents", MapSettings("latent-density"))
    assert len(NoveltyModel.load("latents").nulls_) == 2


def test_a_model_of_arrays_holds_as_many_as_it_is_asked_to() -> None:
    random = np.random.default_rng(0)
    x = random.normal(1, 0.1, (4000, 6)).astype(np.float32)
    groups = np.repeat(["a", "b", "c", "d"], 1000)
    model = NoveltyModel(4, hidden=(8,), epochs=1, reference=1000).fit(x, groups=groups)
    assert [len(part) for part in model.reference_.parts] == [250] * 4
    model.calibrate()
    assert model.p_values(x).shape == (4000,)


@pytest.mark.parametrize(
    ("most", "then"), [(None, r"calibrate it \(qspace-nd calibrate\)"), (MOST, "fit it again")]
)
def test_where_people_cannot_be_mapped_it_is_said_what_is_there_and_what_can_be_done(
    most: int | None, then: str, inside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise WorkError("There is no room.")

    monkeypatch.setattr(store, "add_nulls", full)
    told = rf"The model is in .*new and is not calibrated; {then}\. There is no room\."
    with pytest.raises(WorkError, match=told):
        fit_scans(
            HEALTHY[:4], NoveltyModel(epochs=1, reference=most), tmp_path / "new", template=False
        )
    assert not NoveltyModel.load(tmp_path / "new").nulls_
