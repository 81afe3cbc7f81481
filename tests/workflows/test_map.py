from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError, OutputError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows import map as mapping
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import CONTROLS, MODEL, NOVELTY, PATIENT, Run, voxels

pytestmark = pytest.mark.usefixtures("inside")


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).astype(np.float64)


def in_mask(scan: Path) -> np.ndarray:
    """The voxels of a scan (n, C), divided by their mean."""
    mask = values_of(scan.with_name(scan.name.replace(".nii", "_mask.nii"))) > 0
    signal = values_of(scan)[mask]
    signal = signal[(signal[:, [0, 7]].mean(axis=1)) > 0]
    return np.asarray(signal / signal.mean())


def test_a_map_of_the_baseline_is_the_naive_distance_to_the_healthy_voxels() -> None:
    map_scans([PATIENT], MODEL, Path("map.nii.gz"), MapSettings("input-distance"))
    healthy = np.concatenate([in_mask(scan) for scan in CONTROLS])
    means = healthy.mean(axis=0)
    mask = values_of(Path("map_mask.nii.gz")) > 0
    rows = slice(None, None, 40)
    novelty = values_of(Path("map.nii.gz"))[mask][rows]
    naive = [
        np.sort(np.sqrt(((healthy - voxel) ** 2 / means**2).sum(axis=1)))[:10].mean()
        for voxel in in_mask(PATIENT)[rows]
    ]
    np.testing.assert_allclose(novelty, naive, rtol=1e-3)


def test_the_subject_of_a_healthy_scan_is_left_out_of_the_reference(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "qspace_nd")
    map_scans([CONTROLS[1]], MODEL, Path("map.nii.gz"), MapSettings("input-distance"))
    assert any("subject, control-02, are left out" in said for said in caplog.messages)
    healthy = np.concatenate([in_mask(scan) for scan in CONTROLS])
    others = np.concatenate([in_mask(CONTROLS[0]), in_mask(CONTROLS[2])])
    mask = values_of(Path("map_mask.nii.gz")) > 0
    rows = slice(None, None, 200)
    means = healthy.mean(axis=0)
    naive = [
        np.sort(np.sqrt(((others - voxel) ** 2 / means**2).sum(axis=1)))[:10].mean()
        for voxel in in_mask(CONTROLS[1])[rows]
    ]
    np.testing.assert_allclose(values_of(Path("map.nii.gz"))[mask][rows], naive, rtol=1e-3)


def test_a_map_of_several_scores_is_several_files_with_sidecars_and_pictures_and_one_mask() -> None:
    scores = ["latent-distance", "input-distance"]
    (files,) = map_scans([PATIENT], MODEL, Path("out/map.nii.gz"), MapSettings(scores))
    assert files.maps == {score: Path(f"out/map_{score}.nii.gz") for score in scores}
    assert {path.name for path in Path("out").iterdir()} == {
        "map_mask.nii.gz",
        *(f"map_{score}.{ending}" for score in scores for ending in ("nii.gz", "json", "png")),
    }
    facts = json.loads(Path("out/map_input-distance.json").read_text())
    assert facts["Score"] == "input-distance"
    assert facts["Sources"] == ["../patient.nii.gz"]
    assert facts["Mask"] == "map_mask.nii.gz"
    assert facts["Model"] == json.loads((MODEL / "model.json").read_text())["hash"]
    assert facts["Voxels"] == np.count_nonzero(values_of(Path("out/map_mask.nii.gz")))


def test_maps_of_several_scans_lie_in_a_folder_by_their_names() -> None:
    map_scans([PATIENT, CONTROLS[0]], MODEL, Path("maps"))
    maps = {path.name for path in Path("maps").glob("*_novelty.nii.gz")}
    assert maps == {"patient_novelty.nii.gz", "control-01_novelty.nii.gz"}
    np.testing.assert_array_equal(
        values_of(Path("maps/patient_novelty.nii.gz")), values_of(NOVELTY)
    )


def test_an_input_is_never_overwritten_even_by_force() -> None:
    mask = Path("patient_mask.nii.gz")
    for output in (PATIENT, Path("patient.nii.gz").absolute()):
        with pytest.raises(OutputError, match="would be overwritten by the output, but it is an"):
            map_scans([PATIENT], MODEL, output, force=True)
    with pytest.raises(OutputError, match=r"patient_mask.nii.gz would be overwritten"):
        map_scans(
            [CONTROLS[0]],
            MODEL,
            PATIENT,
            options=ScanOptions(mask=mask),
            force=True,
        )


def test_a_model_of_arrays_maps_no_scan() -> None:
    NoveltyModel(epochs=1).fit(voxels(50, 14)).save("arrays")
    with pytest.raises(InputError, match="model in arrays was fitted on arrays, not on scans"):
        map_scans([PATIENT], Path("arrays"), Path("map.nii.gz"))


def test_neighbours_and_smoothing_are_in_the_maps_and_their_sidecars(
    call: Run, inside: Path
) -> None:
    call("map patient.nii.gz -o one.nii.gz --neighbours 1", inside)
    call("map patient.nii.gz -o five.nii.gz --neighbours 5 --smooth 12", inside)
    call("map patient.nii.gz -o plain.nii.gz", inside)
    one, five, plain, smoothed = (
        read_volume(inside / f"{name}.nii.gz")[0]
        for name in ("one", "five", "plain", "five_smoothed")
    )
    mask, grid = read_volume(inside / "five_mask.nii.gz")
    brain = mask > 0
    assert (five >= one).all() and (five > one).any()
    assert (plain >= five).all() and (plain > five).any()
    expected = smooth_inside(five, brain, grid.voxel_sizes, 12.0)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    facts = json.loads((inside / "five_smoothed.json").read_text())
    assert (facts["Neighbours"], facts["SmoothingFWHM"]) == (5, 12.0)
    assert "SmoothingFWHM" not in json.loads((inside / "five.json").read_text())
    for name, number in (("one", 1), ("plain", 10)):
        assert json.loads((inside / f"{name}.json").read_text())["Neighbours"] == number


def test_the_model_is_not_read_where_all_is_mapped_already(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = map_scans([PATIENT], MODEL, "maps")
    monkeypatch.setattr(mapping, "load_model", lambda *_: pytest.fail("the model was read"))
    assert map_scans([PATIENT], MODEL, "maps") == files
