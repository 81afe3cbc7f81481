"""Scans without b-values from files to files: channels by name, a template on one, directions."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError
from qspace_nd.model.index_kinds import require_kinds
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.registration.guard import Guard
from qspace_nd.workflows.add import add_scans
from qspace_nd.workflows.check import check_scans
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import (
    CONTROLS,
    MODEL,
    PATIENT,
    Run,
    as_stack,
    register_quickly,
    tiny_cohort,
)

NAMES = ("b0", "trace", "DWI")
SCORES = ("latent-distance", "latent-placed-distance", "latent-placed-directed-distance")


@pytest.fixture(scope="module", autouse=True)
def quickly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        register_quickly(patch)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stacks of three controls and a patient, and a model of two, registered on the first."""
    folder, scans = (tmp_path_factory.mktemp(name) for name in ("stacks", "scans"))
    tiny_cohort(scans, controls=3, layout="flat")
    for path in (*CONTROLS, PATIENT):
        as_stack(scans / path, folder / path)
    with chdir(folder):
        fit_scans(CONTROLS[:2], NoveltyModel(epochs=1), MODEL, channels=NAMES, register_on="b0")
    return folder


@pytest.fixture
def there(study: Path) -> Iterator[Path]:
    with chdir(study):
        yield study


def test_a_stacks_tissue_is_told_by_its_channels_which_count_alike(there: Path) -> None:
    model = NoveltyModel.load(MODEL)
    assert model.acquisition_ is not None
    assert model.acquisition_.stack is not None
    assert model.acquisition_.stack.registered_on("b0") == model.acquisition_.stack
    assert model.template_ is not None
    assert len(model.template_["values"]) == 1
    reference = model.reference_
    assert reference.weights == (1.0, 1.0, 1.0)
    for part in reference.parts:
        x, features = part.views.x.numpy(), part.views.located.features.numpy()
        # Logarithms of the same signals, of which each channel has a scale of its own taken off.
        bright = x[:, 0] > 0.5
        assert np.ptp(features[bright, 0] - np.log(x[bright, 0])) < 1e-4


def test_maps_look_for_channels_that_rise_or_fall_and_say_so(there: Path, tmp_path: Path) -> None:
    settings = MapSettings(SCORES, toward="b0=+,2=-", explain=True)
    (files,) = map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", settings)
    mask = nib.load(files.mask).get_fdata() > 0
    for path in files.maps.values():
        values = nib.load(path).get_fdata()[mask]
        assert np.isfinite(values).all() and values.std() > 0
    facts = json.loads((tmp_path / f"novelty_{SCORES[2]}.json").read_text())
    assert facts["Knows"] == "the place and the direction of change"
    assert (facts["Toward"], facts["ChangeLookedFor"]) == ("b0=+,2=-", "higher b0, lower trace")
    for name in NAMES:
        deviation = nib.load(tmp_path / f"novelty_deviation-{name}.nii.gz").get_fdata()
        assert deviation[mask].min() < 0 < deviation[mask].max()


def test_the_direction_decides_what_a_brighter_place_is_worth(there: Path) -> None:
    model = NoveltyModel.load(MODEL)
    part = model.reference_.parts[0]
    x, located = part.views.x.numpy().copy(), part.views.located
    brighter = np.arange(len(x)) % 10 == 0
    x[brighter, 0] *= 1.3
    found = {
        toward: model.novelties(
            x, ["directed-distance"], located=located, toward=toward, leave_out=part.subject
        )["directed-distance"]
        for toward in ("b0=+", "b0=-")
    }
    assert np.median(found["b0=+"][brighter]) > np.median(found["b0=+"][~brighter])
    assert np.median(found["b0=-"][brighter]) < np.median(found["b0=-"][~brighter])


def test_a_stack_that_does_not_lie_well_is_told_by_its_channel(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Guard, "limit", 0.0)
    with caplog.at_level(logging.WARNING):
        map_scans([PATIENT], MODEL, tmp_path / "novelty.nii.gz", MapSettings(SCORES[:2]))
    assert "does not lie well in the template: its b0 differs by" in caplog.text


def test_scans_are_checked_beside_the_models_names_and_added_with_places(
    study: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(study / MODEL, tmp_path / "model")
    with chdir(study):
        (report,) = check_scans([CONTROLS[2]], tmp_path / "model")
        add_scans([CONTROLS[2]], tmp_path / "model")
    assert "no b-values; the model's are 1 (b0), 2 (trace), 3 (DWI)" in report.lines()[1]
    assert NoveltyModel.load(tmp_path / "model").reference_.is_located


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"stack": {"names": ["b0", "b0", "DWI"], "registered": 0}}, "has 2 names of channels"),
        ({"stack": {"names": ["b0", "DWI"], "registered": 0}}, "has 2 names of channels for 3"),
        ({"stack": {"names": ["b0", "../x", "DWI"], "registered": 0}}, "not a list of names"),
        ({"stack": {"names": [*NAMES], "registered": 3}}, "the channel that is registered 3"),
        ({"stack": {"names": [*NAMES], "registered": None}}, "that is registered None"),
        ({"stack": None}, "that is registered None"),
    ],
)
def test_an_index_that_tells_of_other_channels_is_refused(
    there: Path, change: dict[str, object], says: str
) -> None:
    index = json.loads((MODEL / "model.json").read_text())
    require_kinds(index)
    index["acquisition"] |= change
    with pytest.raises(ValueError, match=says):
        require_kinds(index)
    index = json.loads((MODEL / "model.json").read_text())
    for part in index["reference"]:
        part["features"] = 4
    with pytest.raises(ValueError, match="has 4 features of tissue where 3 are told"):
        require_kinds(index)


def test_channels_without_names_are_numbers_and_have_no_template(
    there: Path, tmp_path: Path
) -> None:
    fit_scans(CONTROLS[:2], NoveltyModel(epochs=1), tmp_path / "model")
    model = NoveltyModel.load(tmp_path / "model")
    assert model.template_ is None
    with pytest.raises(InputError, match=r"fit it again with --register-on, for its channels 1, 2"):
        map_scans([PATIENT], tmp_path / "model", tmp_path / "n.nii.gz", MapSettings(SCORES[1]))
    (files,) = map_scans(
        [PATIENT], tmp_path / "model", tmp_path / "n.nii.gz", MapSettings(explain=True)
    )
    for name, path in files.deviations.items():  # which need none
        assert path.name == f"n_deviation-{name}.nii.gz"
        assert np.ptp(nib.load(path).get_fdata()) > 1
    assert list(files.deviations) == ["1", "2", "3"]


FIT = "fit healthy/control-01.nii.gz healthy/control-02.nii.gz --model new"
MAP = "map patient.nii.gz -o new.nii.gz"


def test_what_does_not_fit_stacks_is_said_before_any_work(there: Path, call: Run) -> None:
    for line, says in {
        f"{FIT} --template": "named; name one of 1, 2, 3 with --register-on",
        f"{FIT} --channels b0,trace": "2 names of channels (b0, trace) were given",
        f"{FIT} --register-on T1w": "There is no channel 'T1w' to register on",
        f"{FIT} --register-on 1 --no-template": "leave out --register-on or --no-template",
        "fit healthy/control-01.nii.gz --model new --register-on 1": "two people or more",
        "fit healthy/control-03.nii.gz --add --channels a,b,c": "--channels does not go with --add",
        f"{MAP} --toward demyelination": "'demyelination' is not one of the channels 1 (b0)",
        f"{MAP} --toward t2=+": "which have no b-values: 't2=+' is not one of the channels 1 (b0)",
        f"{MAP} --toward DWI=up": "'DWI=up' is not one of the channels",
    }.items():
        outcome = call(line, there)
        assert outcome.status == 2, line
        assert says in " ".join(outcome.stderr.split()), outcome.stderr
    assert not list(there.glob("new*"))


def test_channels_of_diffusion_mri_have_no_names(folder: Path, call: Run) -> None:
    for line, says in {
        f"{FIT} --channels b0,trace,DWI": "--channels is for scans without b-values",
        f"{FIT} --register-on 1": "--register-on is for scans without b-values",
        f"{MAP} --toward FLAIR=+": "'FLAIR=+' is not one of t2, md and fa",
    }.items():
        outcome = call(line, folder)
        assert outcome.status == 2, line
        assert says in " ".join(outcome.stderr.split()), outcome.stderr
    assert not list(folder.glob("new*"))
