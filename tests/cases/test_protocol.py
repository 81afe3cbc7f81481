"""Scans of another protocol than the model's: `check --model` and `map` say in what they differ."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import pytest

from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.model.store import read_acquisition
from tests.cases.scans import save_scan
from tests.cases.test_btables import save_scan as save_fibres
from tests.conftest import Run

FACTS = {
    "EchoTime": 0.071,
    "MagneticFieldStrength": 3,
    "Manufacturer": "Siemens",
    "ManufacturersModelName": "Prisma_fit",
}
TOLD = "is unlike the scans it is compared with: it has "


def save_with(path: Path, seed: int, facts: object = None, millimetres: float = 8.0) -> Path:
    """Write a scan with the JSON beside it, or with voxels of another size."""
    save_scan(path, seed)
    image = nib.load(path)
    affine = image.affine * [[millimetres / 8], [millimetres / 8], [millimetres / 8], [1]]
    other = nib.Nifti1Image(image.dataobj[:], affine)
    other.header.set_xyzt_units("mm")
    nib.save(other, path)
    if facts is not None:
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(
            facts if isinstance(facts, str) else json.dumps(facts)
        )
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("protocol") / "model"


@pytest.fixture
def place(model: Path, tmp_path: Path, call: Run) -> Path:
    """A folder with a model of two scans, made once."""
    if not model.exists():
        for seed in (1, 2):
            save_with(model.parent / f"c{seed}.nii.gz", seed, FACTS)
        fitted = call(f"fit c1.nii.gz c2.nii.gz --epochs 1 --model {model}", model.parent)
        assert fitted.status == 0, fitted.stderr
        assert TOLD not in fitted.stderr
    return tmp_path


@pytest.mark.parametrize(
    ("facts", "millimetres", "says"),
    [
        (FACTS, 5.0, "voxels of 5 x 5 x 5 mm and not voxels of 8 x 8 x 8 mm"),
        (FACTS | {"EchoTime": 0.09}, 8.0, "an echo time of 90 ms and not an echo time of 71 ms"),
        (FACTS | {"MagneticFieldStrength": 1.5}, 8.0, "a field of 1.5 T and not a field of 3 T"),
        (
            FACTS | {"ManufacturersModelName": "Skyra"},
            8.0,
            "the scanner Siemens Skyra and not the scanner Siemens Prisma_fit",
        ),
    ],
)
def test_what_differs_is_told_by_check_and_map_and_in_the_sidecar(
    facts: object, millimetres: float, says: str, model: Path, place: Path, call: Run
) -> None:
    save_with(place / "p.nii.gz", 5, facts, millimetres)
    checked = call(f"check p.nii.gz --model {model}", place)
    assert checked.status == 0
    assert f"{TOLD}{says}." in checked.stdout
    mapped = call(f"map p.nii.gz --model {model} -o map.nii.gz", place)
    assert mapped.status == 0
    assert f"{TOLD}{says}." in mapped.stderr
    assert json.loads((place / "map.json").read_text())["UnlikeModel"] == [says]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(FACTS, id="the same"),
        pytest.param(FACTS | {"EchoTime": 71, "MagneticFieldStrength": 2.89}, id="other units"),
        pytest.param(FACTS | {"Manufacturer": "SIEMENS"}, id="capitals"),
        pytest.param(None, id="nothing known"),
        pytest.param({key: [1] for key in FACTS}, id="of other types"),
        pytest.param({"EchoTime": -1, "Manufacturer": " "}, id="values that are none"),
    ],
)
def test_nothing_is_told_of_what_is_alike_or_not_known(
    facts: object, model: Path, place: Path, call: Run
) -> None:
    save_with(place / "p.nii.gz", 5, facts)
    assert TOLD not in call(f"check p.nii.gz --model {model}", place).stdout
    mapped = call(f"map p.nii.gz --model {model} -o map.nii.gz", place)
    assert (mapped.status, TOLD in mapped.stderr) == (0, False)
    assert "UnlikeModel" not in json.loads((place / "map.json").read_text())


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, '{"EchoTime": NaN}'])
def test_a_json_that_cannot_be_read_stops_nothing(
    text: str, model: Path, place: Path, call: Run
) -> None:
    save_with(place / "p.nii.gz", 5, text)
    assert call(f"check p.nii.gz --model {model}", place).status == 0


def test_a_noisier_scan_is_told_by_the_residual_of_the_fit(tmp_path: Path, call: Run) -> None:
    for seed in (1, 2):
        save_fibres(tmp_path / f"c{seed}.nii.gz", seed=seed)
    save_fibres(tmp_path / "p.nii.gz", seed=3, noise=60)
    assert call("fit c1.nii.gz c2.nii.gz --epochs 1", tmp_path).status == 0
    assert TOLD not in call("check c1.nii.gz c2.nii.gz --model qspace-nd-model", tmp_path).stdout
    told = call("check p.nii.gz --model qspace-nd-model", tmp_path).stdout
    assert f"{TOLD}a residual of the fit above" in told


def test_a_scan_with_less_noise_is_as_good(tmp_path: Path, call: Run) -> None:
    for seed in (1, 2):
        save_fibres(tmp_path / f"c{seed}.nii.gz", seed=seed, noise=60)
    save_fibres(tmp_path / "p.nii.gz", seed=3)
    assert call("fit c1.nii.gz c2.nii.gz --epochs 1", tmp_path).status == 0
    assert TOLD not in call("check p.nii.gz --model qspace-nd-model", tmp_path).stdout


def test_a_model_that_does_not_tell_is_read(model: Path, place: Path) -> None:
    data = read_acquisition(model).to_json()
    assert Acquisition.from_json(data).conditions == read_acquisition(model).conditions
    for scan in data["scans"]:
        del scan["conditions"]
    assert Acquisition.from_json(data).conditions == []
