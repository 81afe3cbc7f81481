from __future__ import annotations

import json
import re
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.errors import GradientError, InputError, LabelError, OutputError, ScanError
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    Protocol,
    ScanOptions,
    bring_to,
    open_scans,
    protocol_of,
    read_scan,
)
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.fit import evaluate_maps, fit_scans, map_scans

MODEL = Path("qspace-nd-model")
PATIENT, NOVELTY, LABELS = Path("patient.nii.gz"), Path("novelty.nii.gz"), Path("lesions.nii.gz")
CONTROLS = [Path(f"healthy/control-0{number}.nii.gz") for number in (1, 2, 3)]


@pytest.fixture(autouse=True)
def inside(folder: Path) -> object:
    """Let every test work in its own copy of the prepared folder."""
    with chdir(folder):
        yield


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).astype(np.float64)


def in_mask(scan: Path) -> np.ndarray:
    """The voxels of a scan (n, C), divided by their mean."""
    mask = values_of(scan.with_name(scan.name.replace(".nii", "_mask.nii"))) > 0
    signal = values_of(scan)[mask]
    signal = signal[(signal[:, [0, 7]].mean(axis=1)) > 0]
    return np.asarray(signal / signal.mean())


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def task(self, name: str, total: int) -> object:
        from qspace_nd.progress import SILENT

        return SILENT.task(name, total)

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.warned.append(message)


# --- Fit and map


def test_a_map_of_the_baseline_is_the_naive_distance_to_the_healthy_voxels() -> None:
    map_scans([PATIENT], MODEL, Path("map.nii.gz"), scores=["input-distance"])
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


def test_the_channels_of_all_healthy_voxels_have_a_mean_of_1() -> None:
    model = NoveltyModel.load(MODEL)
    x = np.concatenate([np.asarray(part.views.x) for part in model.reference_.parts])
    np.testing.assert_allclose(x.mean(axis=0, dtype=np.float64), 1.0, rtol=1e-5)
    assert model.acquisition_ is not None
    assert [scan.name for scan in model.acquisition_.scans] == [
        "control-01",
        "control-02",
        "control-03",
    ]
    assert sum(scan.voxels for scan in model.acquisition_.scans) == len(x)


def test_the_subject_of_a_healthy_scan_is_left_out_of_the_reference() -> None:
    heard = Heard()
    map_scans([CONTROLS[1]], MODEL, Path("map.nii.gz"), scores=["input-distance"], progress=heard)
    assert any("subject, control-02, are left out" in said for said in heard.said)
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


def test_a_map_of_several_scores_is_several_files_with_sidecars_and_one_mask() -> None:
    scores = ["latent-distance", "input-distance"]
    (files,) = map_scans([PATIENT], MODEL, Path("out/map.nii.gz"), scores=scores)
    assert files.maps == {score: Path(f"out/map_{score}.nii.gz") for score in scores}
    assert {path.name for path in Path("out").iterdir()} == {
        "map_mask.nii.gz",
        *(f"map_{score}.{ending}" for score in scores for ending in ("nii.gz", "json")),
    }
    facts = json.loads(Path("out/map_input-distance.json").read_text())
    assert facts["Score"] == "input-distance"
    assert facts["Sources"] == ["../patient.nii.gz"]
    assert facts["Mask"] == "map_mask.nii.gz"
    assert facts["Model"] == json.loads((MODEL / "model.json").read_text())["hash"]
    assert facts["Voxels"] == np.count_nonzero(values_of(Path("out/map_mask.nii.gz")))


def test_maps_of_several_scans_lie_in_a_folder_by_their_names() -> None:
    map_scans([PATIENT, CONTROLS[0]], MODEL, Path("maps"), scores=["latent-distance"])
    maps = {path.name for path in Path("maps").glob("*_novelty.nii.gz")}
    assert maps == {"patient_novelty.nii.gz", "control-01_novelty.nii.gz"}
    np.testing.assert_array_equal(
        values_of(Path("maps/patient_novelty.nii.gz")), values_of(NOVELTY)
    )


def test_a_model_that_was_fitted_on_scans_can_be_used_at_once() -> None:
    model = NoveltyModel(epochs=1)
    fit_scans(CONTROLS, model, Path("again"))
    x = NoveltyModel.load(MODEL).reference_.parts[0].views.x.numpy()
    nearest = model.novelties(x[:50], ["latent-distance"], neighbours=1)["latent-distance"]
    assert (nearest == 0).all()
    assert [len(part) for part in model.reference_.parts] == [
        scan.voxels for scan in model.acquisition_.scans
    ]


def test_an_input_is_never_overwritten_even_by_force() -> None:
    mask = Path("patient_mask.nii.gz")
    for output in (PATIENT, Path("patient.nii.gz").absolute()):
        with pytest.raises(OutputError, match="would be overwritten by the output, but it is an"):
            map_scans([PATIENT], MODEL, output, scores=["latent-distance"], force=True)
    with pytest.raises(OutputError, match=r"patient_mask.nii.gz would be overwritten"):
        map_scans(
            [CONTROLS[0]],
            MODEL,
            PATIENT,
            scores=["latent-distance"],
            options=ScanOptions(mask=mask),
            force=True,
        )


def test_a_model_of_arrays_maps_no_scan() -> None:
    x = np.random.default_rng(0).uniform(1, 2, (50, 14)).astype(np.float32)
    NoveltyModel(epochs=1).fit(x).save("arrays")
    with pytest.raises(InputError, match="model in arrays was fitted on arrays, not on scans"):
        map_scans([PATIENT], Path("arrays"), Path("map.nii.gz"), scores=["latent-distance"])


def test_a_model_of_plain_channels_takes_only_as_many_channels() -> None:
    for path in Path("healthy").glob("*.bv*"):
        path.unlink()
    for name in ("patient.bval", "patient.bvec"):
        Path(name).unlink()
    heard = Heard()
    fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("plain"), progress=heard)
    assert sum("HAS NO B-VALUES" in warning for warning in heard.warned) == 3
    map_scans([PATIENT], Path("plain"), Path("map.nii.gz"), scores=["latent-distance"])
    image = nib.load(PATIENT)
    nib.save(image.slicer[..., :9], "fewer.nii.gz")
    with pytest.raises(ScanError, match=r"fewer.nii.gz has 9 channels, 14 are expected"):
        map_scans(
            [Path("fewer.nii.gz")], Path("plain"), Path("no.nii.gz"), scores=["latent-distance"]
        )


def test_the_same_scans_give_the_same_model_in_whatever_process() -> None:
    fit_scans(CONTROLS, NoveltyModel(epochs=1), Path("again"))
    hashes = [json.loads((m / "model.json").read_text())["files"] for m in (MODEL, Path("again"))]
    assert hashes[0] == hashes[1]


# --- The protocol


def test_volumes_are_brought_into_the_order_of_the_protocol() -> None:
    protocol = protocol_of(NoveltyModel.load(MODEL), MODEL)
    order = [*range(13, 7, -1), 0, 7, *range(1, 7)]
    image = nib.load(PATIENT)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., order], image.affine), "other.nii.gz")
    for ending in ("bval", "bvec"):
        numbers = np.loadtxt(f"patient.{ending}", ndmin=2)[:, order]
        np.savetxt(f"other.{ending}", numbers)
    Path("patient_mask.nii.gz").rename("other_mask.nii.gz")
    (scan,) = open_scans(["other.nii.gz"], DEFAULT_OPTIONS)
    np.testing.assert_array_equal(
        bring_to(scan, protocol, DEFAULT_OPTIONS).order, np.argsort(np.array(order))
    )
    voxels = read_scan(scan, protocol, DEFAULT_OPTIONS)
    mask = values_of(Path("other_mask.nii.gz")) > 0
    signal = values_of(PATIENT)[mask]
    np.testing.assert_allclose(voxels.values, signal / signal.mean(), rtol=1e-6)


def test_a_scan_with_and_one_without_b_values_do_not_fit_together() -> None:
    (scan,) = open_scans([PATIENT], DEFAULT_OPTIONS)
    with pytest.raises(GradientError, match="has b-values, the scans it is to be compared with"):
        bring_to(scan, Protocol(14, None), DEFAULT_OPTIONS)


# --- Evaluate


def test_the_evaluation_agrees_with_scikit_learn() -> None:
    evaluation = evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    (result,) = evaluation.results
    mask = values_of(Path("novelty_mask.nii.gz")) > 0
    truth, novelty = values_of(LABELS)[mask] > 0, values_of(NOVELTY)[mask]
    assert result.auc == pytest.approx(roc_auc_score(truth, novelty))
    assert result.average_precision == pytest.approx(average_precision_score(truth, novelty))
    assert result.patient == "patient"
    assert all(path.is_file() for path in evaluation.files)
    assert json.loads(Path("eval/eval.json").read_text())


def test_a_region_is_evaluated_beside_the_whole_mask() -> None:
    region = Path("white_matter.nii.gz")
    evaluation = evaluate_maps([NOVELTY], [LABELS], Path("eval"), within=[region])
    whole, part = evaluation.results
    both = (values_of(region) > 0.5) & (values_of(Path("novelty_mask.nii.gz")) > 0)
    truth, novelty = values_of(LABELS)[both] > 0, values_of(NOVELTY)[both]
    assert (whole.region, part.region) == ("brain", "within")
    assert part.auc == pytest.approx(roc_auc_score(truth, novelty))


def test_a_mask_that_is_named_takes_the_place_of_the_one_beside_the_map() -> None:
    Path("novelty_mask.nii.gz").unlink()
    with pytest.raises(ScanError, match=r"mask of novelty.nii.gz is not beside it; .*--mask"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    assert not Path("eval").exists()
    evaluate_maps([NOVELTY], [LABELS], Path("eval"), masks=[Path("patient_mask.nii.gz")])


def test_nothing_is_written_where_the_last_of_several_labels_is_bad() -> None:
    scores = ["latent-distance"]
    map_scans([PATIENT, CONTROLS[0]], MODEL, Path("maps"), scores=scores)
    image = nib.load(LABELS)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), "none.nii.gz")
    maps = [Path("maps/patient_novelty.nii.gz"), Path("maps/control-01_novelty.nii.gz")]
    with pytest.raises(LabelError, match=r"none.nii.gz marks no voxel as lesion within the mask"):
        evaluate_maps(maps, [LABELS, Path("none.nii.gz")], Path("eval"))
    assert not Path("eval").exists()


def test_a_map_is_evaluated_without_its_scan_and_its_sidecar() -> None:
    PATIENT.unlink()
    Path("novelty.json").unlink()
    (result,) = evaluate_maps([NOVELTY], [LABELS], Path("eval")).results
    assert (result.score, result.patient) == ("novelty", "novelty")


def test_neighbours_and_smoothing_are_in_the_maps_and_their_sidecars(call, folder: Path) -> None:
    call("map patient.nii.gz -o one.nii.gz --neighbours 1", folder)
    call("map patient.nii.gz -o five.nii.gz --neighbours 5 --smooth 12", folder)
    call("map patient.nii.gz -o plain.nii.gz", folder)
    one, five, plain, smoothed = (
        read_volume(folder / f"{name}.nii.gz")[0]
        for name in ("one", "five", "plain", "five_smoothed")
    )
    mask, grid = read_volume(folder / "five_mask.nii.gz")
    inside = mask > 0
    assert (five >= one).all() and (five > one).any()
    assert (plain >= five).all() and (plain > five).any()
    expected = smooth_inside(five, inside, grid.voxel_sizes, 12.0)
    np.testing.assert_allclose(smoothed, expected, rtol=1e-6)
    facts = json.loads((folder / "five_smoothed.json").read_text())
    assert (facts["Neighbours"], facts["SmoothingFWHM"]) == (5, 12.0)
    assert "SmoothingFWHM" not in json.loads((folder / "five.json").read_text())
    for name, number in (("one", 1), ("plain", 10)):
        assert json.loads((folder / f"{name}.json").read_text())["Neighbours"] == number


def test_fit_says_whether_the_network_learned(call, folder: Path) -> None:
    run = call("fit healthy --model other --epochs 1 --kl-weight 1e6", folder)
    assert re.search(r"Validation loss -?[\d.]+ nats a voxel; latents alive 0 of 8", run.stderr)
    assert "8 of 8 latents are dead" in run.stderr
