from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.errors import GridError, LabelError, OutputError, ScanError
from qspace_nd.evaluation.froc import froc
from qspace_nd.workflows.evaluate import evaluate_maps
from qspace_nd.workflows.map import map_scans
from tests.conftest import CONTROLS, LABELS, MODEL, NOVELTY, PATIENT, Heard

pytestmark = pytest.mark.usefixtures("inside")


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj).astype(np.float64)


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
    assert (whole.region, part.region) == ("brain", "white_matter")
    assert part.auc == pytest.approx(roc_auc_score(truth, novelty))


def test_regions_are_told_apart_by_their_names() -> None:
    image = nib.load("white_matter.nii.gz")
    values = values_of(Path("novelty_mask.nii.gz"))
    values[: len(values) // 2] = 0
    half = nib.Nifti1Image(np.where(values_of(LABELS) > 0, 1, values).astype("u1"), image.affine)
    nib.save(half, "half.nii.gz")
    regions = [Path("white_matter.nii.gz"), Path("half.nii.gz")]
    evaluation = evaluate_maps([NOVELTY], [LABELS], Path("eval"), within=regions)
    assert [one.region for one in evaluation.results] == ["brain", "white_matter", "half"]
    assert len({one.voxels for one in evaluation.results}) == 3
    told = json.loads(Path("eval/eval.json").read_text())
    assert [one["region"] for one in told["means"]] == ["brain", "white_matter", "half"]


def write_neglogp(values: np.ndarray, affine: np.ndarray | None = None) -> None:
    affine = nib.load(NOVELTY).affine if affine is None else affine
    nib.save(nib.Nifti1Image(values.astype(np.float32), affine), "novelty_neglogp.nii.gz")


def test_calibrated_thresholds_are_evaluated_where_there_are_such_maps() -> None:
    Path("novelty_neglogp.nii.gz").unlink(missing_ok=True)
    (without,) = evaluate_maps([NOVELTY], [LABELS], Path("without")).results
    assert "p_0.01" not in Path("without/eval.tsv").read_text()
    lesion = values_of(LABELS) > 0
    logp = np.where(lesion, 2.5, 1.0)
    logp[tuple(np.argwhere(lesion)[0])] = 3.5
    write_neglogp(logp)
    (result,) = evaluate_maps([NOVELTY], [LABELS], Path("with")).results
    assert result.overlaps["p_0.01"].dice == 1.0
    assert result.overlaps["p_0.001"].recall == pytest.approx(1 / result.lesion_voxels)
    assert without.overlaps == {name: result.overlaps[name] for name in without.overlaps}
    assert "recall_p_0.001" in Path("with/eval.tsv").read_text()


def test_a_calibrated_map_that_does_not_fit_is_refused_and_another_is_another_evaluation() -> None:
    write_neglogp(values_of(NOVELTY), np.eye(4))
    with pytest.raises(GridError, match=r"novelty_neglogp\.nii\.gz lies on another grid"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    write_neglogp(np.full_like(values_of(NOVELTY), np.nan))
    with pytest.raises(ScanError, match=r"novelty_neglogp\.nii\.gz holds NaN"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    assert not Path("eval").exists()
    write_neglogp(values_of(NOVELTY))
    evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    write_neglogp(values_of(NOVELTY) / 2)
    with pytest.raises(OutputError, match="exists already"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))


def test_lesions_are_found_at_one_threshold_of_all_patients() -> None:
    map_scans([PATIENT, CONTROLS[0]], MODEL, Path("maps"))
    maps = [Path("maps/patient_novelty.nii.gz"), Path("maps/control-01_novelty.nii.gz")]
    results = evaluate_maps(maps, [LABELS, LABELS], Path("eval")).results
    first, second = (one.froc for one in results)
    assert first is not None and second is not None
    np.testing.assert_array_equal(first.thresholds, second.thresholds)
    masks = [values_of(Path(f"maps/{path.name[:-7]}_mask.nii.gz")) > 0 for path in maps]
    curve = froc(
        [values_of(path).astype(np.float32) for path in maps], [values_of(LABELS) > 0] * 2, masks
    )
    np.testing.assert_array_equal(np.hstack([first.errors, second.errors]), curve.errors)
    np.testing.assert_array_equal(np.hstack([first.hits, second.hits]), curve.hits)


def test_a_mask_that_is_named_takes_the_place_of_the_one_beside_the_map() -> None:
    Path("novelty_mask.nii.gz").unlink()
    with pytest.raises(ScanError, match=r"mask of novelty.nii.gz is not beside it; .*--mask"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    assert not Path("eval").exists()
    evaluate_maps([NOVELTY], [LABELS], Path("eval"), masks=[Path("patient_mask.nii.gz")])


def test_nothing_is_written_where_the_last_of_several_labels_is_bad() -> None:
    map_scans([PATIENT, CONTROLS[0]], MODEL, Path("maps"))
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


def test_each_map_is_a_step() -> None:
    heard = Heard()
    evaluate_maps([NOVELTY], [LABELS], Path("eval"), progress=heard)
    assert heard.names == ["Evaluating maps", "Counting false clusters"]
    assert (heard.steps, heard.notes) == ([1, 1], ["patient", "latent-distance"])


def test_an_evaluation_knows_when_what_its_picture_shows_has_changed() -> None:
    image = nib.load(NOVELTY)
    neglogp = Path("novelty_neglogp.nii.gz")
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 2, image.affine), neglogp)
    evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    drawn = Path("eval/slices_patient.png").read_bytes()
    neglogp.unlink()
    with pytest.raises(OutputError, match="exists already"):
        evaluate_maps([NOVELTY], [LABELS], Path("eval"))
    evaluate_maps([NOVELTY], [LABELS], Path("eval"), force=True)
    assert Path("eval/slices_patient.png").read_bytes() != drawn


# --- Labels on another grid


def finer_labels(path: Path = Path("fine.nii.gz")) -> Path:
    """The lesions of the patient in voxels of half the size, as drawn on an anatomical image."""
    image = nib.load(LABELS)
    values = np.kron(values_of(LABELS) > 0, np.ones((2, 2, 2))).astype("u1")
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25  # the corners of both images' voxels coincide
    nib.save(nib.Nifti1Image(values, image.affine @ half), path)
    return path


def test_labels_on_another_grid_are_refused_with_the_option_that_takes_them() -> None:
    path = finer_labels()
    with pytest.raises(
        GridError, match=r"fine\.nii\.gz lies on another grid .*give --resample-labels, if both"
    ):
        evaluate_maps([NOVELTY], [path], Path("eval"))
    assert not Path("eval").exists()


def test_labels_on_another_grid_are_resampled_and_that_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "qspace_nd")
    path = finer_labels()
    same = evaluate_maps([NOVELTY], [LABELS], Path("same"), resample_labels=True)
    assert not [line for line in caplog.messages if "resampled" in line]
    found = evaluate_maps([NOVELTY], [path], Path("eval"), resample_labels=True)
    assert found.results[0].auc == same.results[0].auc
    assert found.results[0].lesion_voxels == same.results[0].lesion_voxels
    (said,) = [line for line in caplog.messages if "resampled" in line]
    volume = (values_of(LABELS) > 0).sum() * abs(np.linalg.det(nib.load(LABELS).affine)) / 1000
    assert said.count(f"{volume:.3g} ml in") == 2
    assert "without registration" in said
    told = json.loads(Path("eval/eval.json").read_text())
    assert told["resampled_labels"] == {"patient": said}
    assert "resampled_labels" not in json.loads(Path("same/eval.json").read_text())


def test_labels_whose_header_places_no_voxels_are_not_resampled() -> None:
    image = nib.load(finer_labels())
    image.set_sform(image.affine, 0)
    image.set_qform(image.affine, 0)
    nib.save(image, "nowhere.nii.gz")
    with pytest.raises(LabelError, match=r"header of it does not say where .*codes are 0"):
        evaluate_maps([NOVELTY], [Path("nowhere.nii.gz")], Path("eval"), resample_labels=True)
    assert not Path("eval").exists()


def test_labels_that_lie_elsewhere_mark_nothing_in_the_mask() -> None:
    image = nib.load(finer_labels())
    affine = image.affine.copy()
    affine[0, 3] += 1000
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), "elsewhere.nii.gz")
    with pytest.raises(LabelError, match="marks no voxel as lesion within the mask, and 0 outside"):
        evaluate_maps([NOVELTY], [Path("elsewhere.nii.gz")], Path("eval"), resample_labels=True)


def test_several_labels_are_one_lesion_when_they_are_resampled() -> None:
    image = nib.load(finer_labels())
    values = np.asarray(image.dataobj).copy()
    values[::2] *= 2  # two labels that meet everywhere: neither has the half of a voxel of the map
    nib.save(nib.Nifti1Image(values, image.affine), "two.nii.gz")
    one, two = (
        evaluate_maps([NOVELTY], [Path(f"{name}.nii.gz")], Path(name), resample_labels=True)
        for name in ("fine", "two")
    )
    assert two.results[0].lesion_voxels == one.results[0].lesion_voxels
    assert two.results[0].auc == one.results[0].auc
