from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.errors import LabelError, OutputError, ScanError
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
