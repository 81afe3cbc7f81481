"""Places from files to files: a template at `fit`, what knows the place at `map`."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError, ScanError
from qspace_nd.imaging.protocol import Protocol
from qspace_nd.layouts.maps import read_record
from qspace_nd.layouts.names import stem
from qspace_nd.layouts.pairing import find_maps
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.registration.guard import Guard
from qspace_nd.scores.catalogue import DIRECTED
from qspace_nd.simulation.head import standard_table
from qspace_nd.workflows.add import add_scans
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.placing import Placer, require_placeable
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import CONTROLS, MODEL, NOVELTY, PATIENT, Run, register_quickly, tiny_cohort

ALL = ("latent-distance", "latent-placed-distance", "latent-placed-directed-distance")

DEVIATIONS = ("b0", "md", "fa", "b1200")
NEAREST = "the 50 healthy voxels with the nearest latents, wherever they lie"


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        register_quickly(patch)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat cohort and a model of two of its three controls, with a template."""
    folder = tmp_path_factory.mktemp("placed")
    tiny_cohort(folder, controls=3, layout="flat")
    with chdir(folder):
        fit_scans(CONTROLS[:2], NoveltyModel(epochs=1), MODEL, template=True)
    return folder


@pytest.fixture
def there(study: Path) -> Iterator[Path]:
    with chdir(study):
        yield study


def test_a_model_keeps_the_template_and_every_voxels_place(there: Path) -> None:
    model = NoveltyModel.load(MODEL)
    assert model.template_ is not None
    assert model.template_["residuals"].shape == (2,)
    for part in model.reference_.parts:
        located = part.views.located
        assert located.points.shape == (len(part), 3)
        assert located.features.shape == (len(part), 3)
        assert np.isfinite(located.points.numpy()).all()


def test_maps_know_the_place_and_the_change_and_say_so(there: Path, tmp_path: Path) -> None:
    settings = MapSettings(ALL, toward="demyelination", explain=True)
    (files,) = map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", settings)
    mask = nib.load(files.mask).get_fdata() > 0
    maps = {name: nib.load(path).get_fdata()[mask] for name, path in files.maps.items()}
    assert all(np.isfinite(values).all() and values.std() > 0 for values in maps.values())
    facts = json.loads((tmp_path / f"novelty_{ALL[2]}.json").read_text())
    assert facts["Knows"] == "the place and the direction of change"
    assert facts["Toward"] == "demyelination"
    assert facts["ChangeLookedFor"] == "longer T2, higher diffusivity, lower anisotropy"
    assert "PlaceNotUsed" not in facts
    assert "Knows" not in json.loads((tmp_path / f"novelty_{ALL[0]}.json").read_text())
    assert {record.path for record in find_maps([tmp_path])} == set(files.maps.values())
    labels = [read_record(path, DIRECTED).score for path in files.maps.values()]
    assert labels == [*ALL[:2], f"{ALL[2]}, toward demyelination"]  # as tables and figures say it
    for name in DEVIATIONS:
        deviation = nib.load(tmp_path / f"novelty_deviation-{name}.nii.gz").get_fdata()
        assert deviation[mask].min() < 0 < deviation[mask].max()
        assert (deviation[~mask] == 0).all()
        said = json.loads((tmp_path / f"novelty_deviation-{name}.json").read_text())
        assert f"How far {name} is above" in said["Description"]
        assert said["Against"].startswith("healthy people at the same place")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", settings)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before  # skipped


def test_a_registration_that_went_wrong_is_told_and_not_used(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Guard, "limit", 0.0)
    with caplog.at_level(logging.WARNING):
        settings = MapSettings(ALL[:2], explain=True)
        (files,) = map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", settings)
    assert "does not lie well in the template" in caplog.text
    assert "The maps do without the place." in caplog.text
    mask = nib.load(files.mask).get_fdata() > 0
    latent, union = (nib.load(files.maps[name]).get_fdata()[mask] for name in ALL[:2])
    np.testing.assert_allclose(union, np.log(latent), rtol=1e-4)
    assert read_record(files.maps[ALL[1]]).score == f"{ALL[1]}, without the place"
    facts = json.loads((tmp_path / f"novelty_{ALL[1]}.json").read_text())
    assert "does not lie well" in facts["PlaceNotUsed"]
    for name in DEVIATIONS:
        said = json.loads((tmp_path / f"novelty_deviation-{name}.json").read_text())
        assert said["Against"] == NEAREST
    caplog.clear()
    with caplog.at_level(logging.INFO):
        map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", settings)
    assert "is mapped already" in caplog.text


def test_without_a_template_deviations_are_from_the_nearest_and_a_second_run_skips_them(
    inside: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = MapSettings(explain=True)
    (files,) = map_scans([PATIENT], MODEL, "new.nii.gz", settings)
    mask = nib.load(files.mask).get_fdata() > 0
    assert sorted(files.deviations) == sorted(DEVIATIONS)
    for path in files.deviations.values():
        deviation = nib.load(path).get_fdata()
        assert deviation[mask].min() < 0 < deviation[mask].max()
        assert (deviation[~mask] == 0).all()
        said = json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())
        assert said["Against"] == NEAREST
    with caplog.at_level(logging.INFO):
        map_scans([PATIENT], MODEL, "new.nii.gz", settings)
    assert "is mapped already" in caplog.text


@pytest.mark.parametrize(
    ("array", "settings"),
    [
        ("points", MapSettings("placed-distance")),
        ("points", MapSettings("directed-distance", toward="oedema")),
        ("features", MapSettings("latent-placed-distance")),
        ("features", MapSettings(explain=True)),
        ("points", MapSettings(explain=True)),
        ("x", MapSettings(explain=True)),
        ("q_mean", MapSettings("latent-kl", explain=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_damaged_array_that_will_be_read_is_told_before_any_work(
    study: Path, tmp_path: Path, array: str, settings: MapSettings
) -> None:
    shutil.copytree(study / MODEL, tmp_path / "model")
    path = next((tmp_path / "model" / "reference").iterdir())
    content = bytearray(path.read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin, _ = json.loads(content[8 : 8 + length])[array]["data_offsets"]
    content[8 + length + begin] ^= 1
    path.write_bytes(content)
    with chdir(study), pytest.MonkeyPatch.context() as patch:
        patch.setattr("qspace_nd.workflows.map.map_one", None)  # no work is begun
        with pytest.raises(InputError, match=f"{path.name} was altered after it was written"):
            map_scans([PATIENT], tmp_path / "model", tmp_path / "new.nii.gz", settings)
    assert not list(tmp_path.glob("new*"))


def test_added_scans_have_places_too(study: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in study.iterdir():
        (copy / path.name).symlink_to(path)
    (copy / MODEL).unlink()
    with chdir(copy):
        fit_scans(CONTROLS[:2], NoveltyModel(epochs=1), MODEL, template=True)
        add_scans([CONTROLS[2]], MODEL)
        model = NoveltyModel.load(MODEL)
    assert len(model.reference_.parts) == 3
    assert model.reference_.is_located


def test_a_thin_slab_is_fitted_without_a_template_mapped_without_the_place_and_never_added(
    study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slab = tmp_path / "slab.nii.gz"
    with chdir(study):
        _thinned(Path(CONTROLS[2]), slab)
        with pytest.raises(ScanError, match=r"slab.nii.gz cannot be registered.* 16 mm .* Leave"):
            fit_scans([*CONTROLS[:2], slab], NoveltyModel(epochs=1), tmp_path / "x", template=True)
        assert not (tmp_path / "x" / "model.json").exists()
        with pytest.raises(ScanError, match=r"slab.nii.gz cannot be registered.* leave the scan"):
            add_scans([slab], MODEL)
        with caplog.at_level(logging.WARNING), pytest.MonkeyPatch.context() as patch:
            patch.setattr("qspace_nd.workflows.fit.LEAST_SUBJECTS", 2)
            model = fit_scans([CONTROLS[0], slab], NoveltyModel(epochs=1), tmp_path / "new")
        assert model.template_ is None
        assert "16 mm from end to end in one direction" in caplog.text
        assert "The model has no template." in caplog.text
        map_scans([slab], MODEL, tmp_path / "n.nii.gz", MapSettings(ALL[:2]))
    facts = json.loads((tmp_path / f"n_{ALL[1]}.json").read_text())
    assert "slab.nii.gz cannot be registered" in facts["PlaceNotUsed"]


def _thinned(scan: Path, to: Path) -> None:
    """Keep two slices of a scan and of what lies beside it, where there is most brain."""
    mask = scan.with_name(f"{stem(scan)}_mask.nii.gz")
    middle = int(np.argmax(nib.load(mask).get_fdata().sum(axis=(0, 1))))
    for path in (scan, mask):
        image = nib.load(path).slicer[:, :, middle : middle + 2]
        nib.save(image, to.with_name(path.name.replace(stem(scan), stem(to))))
    for suffix in (".bval", ".bvec"):
        table = scan.with_name(stem(scan) + suffix).read_text()
        to.with_name(stem(to) + suffix).write_text(table)


def test_what_a_template_needs_is_said_before_any_work(folder: Path, call: Run) -> None:
    for line, says in {
        "fit healthy/control-01.nii.gz --template --model new": "scans of two people or more",
        "map patient.nii.gz -o new.nii.gz --toward oedema": "has no template",
        "map patient.nii.gz -o new.nii.gz --score directed-distance": "looks for a change",
        "map patient.nii.gz -o new.nii.gz --score latent-kl --toward oedema": "none of the scores",
        "map patient.nii.gz -o new.nii.gz --score placed-distance --search approximate": (
            "placed-distance has no approximate search"
        ),
        "map patient.nii.gz -o new.nii.gz --toward oedem": "did you mean oedema",
    }.items():
        outcome = call(line, folder)
        assert outcome.status == 2, line
        assert says in " ".join(outcome.stderr.split()), outcome.stderr
    assert not list(folder.glob("new*"))


def test_channels_without_a_tensor_have_no_template() -> None:
    with pytest.raises(InputError, match="have no b-values: fit with --no-template"):
        require_placeable(Protocol(4, None))
    invariant = Protocol(6, standard_table(), features="rotation-invariant")
    with pytest.raises(InputError, match="as volumes"):
        require_placeable(invariant)


def test_features_of_which_nothing_can_be_told_are_refused_before_any_work(
    tmp_path: Path, call: Run
) -> None:
    table = standard_table(unweighted=1, directions=16)
    tiny_cohort(tmp_path, controls=2, layout="flat", table=table)
    with chdir(tmp_path):
        fit_scans(CONTROLS[:2], NoveltyModel(epochs=1), MODEL, features="rotation-invariant")
    outcome = call("map patient.nii.gz -o new.nii.gz --explain", tmp_path)
    assert outcome.status == 2
    assert "fit a model on such scans with --features raw" in " ".join(outcome.stderr.split())
    assert not list(tmp_path.glob("new*"))


def test_few_people_have_no_template_unless_it_is_asked_for(folder: Path) -> None:
    with chdir(folder):
        assert NoveltyModel.load(MODEL).template_ is None


@pytest.mark.parametrize("name", ["residuals", "values", "affine"])
def test_a_template_without_a_part_is_refused(there: Path, name: str) -> None:
    arrays = dict(NoveltyModel.load(MODEL).template_ or {})
    del arrays[name]
    with pytest.raises(InputError, match=f"has no '?{name}"):
        Placer.from_arrays(arrays)


def test_a_template_that_was_altered_is_refused(study: Path, tmp_path: Path) -> None:
    shutil.copytree(study / MODEL, tmp_path / "model")
    (path,) = (tmp_path / "model").glob("template-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with chdir(study), pytest.raises(InputError, match="was altered after it was written"):
        map_scans([PATIENT], tmp_path / "model", tmp_path / NOVELTY)
