from __future__ import annotations

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError
from tests.benchmarks.stand_ins import SIMULATION, TABLE, help_of

CASES = 6


def start(case: int) -> str:
    return f"sub-strokecase{case:04d}_ses-0001"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases: trace image, ADC in its usual unit and labels, all of one grid."""
    folder = tmp_path_factory.mktemp("ISLES-2022")
    for case in range(1, CASES + 1):
        subject = SIMULATION.patient(case)
        bvals = TABLE.bvals
        unweighted = subject.signal[..., bvals < 50].mean(axis=-1)
        trace = subject.signal[..., bvals == bvals[bvals >= 50].min()].mean(axis=-1)
        ratio = np.where(subject.mask, trace / np.maximum(unweighted, 1), 1)
        adc = -np.log(np.clip(ratio, 1e-3, 0.99)) / bvals[bvals >= 50].min()
        lesion = subject.labels & subject.mask
        trace, adc = np.where(lesion, 1.2 * trace, trace), np.where(lesion, 0.8 * adc, adc)
        place = f"sub-strokecase{case:04d}/ses-0001"
        files = {
            f"{place}/dwi/{start(case)}_dwi.nii.gz": trace * (1 + case),
            f"{place}/dwi/{start(case)}_adc.nii.gz": adc,
            f"derivatives/{place}/{start(case)}_msk.nii.gz": lesion.astype(np.uint8),
        }
        for name, values in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            values = values if values.dtype == np.uint8 else (values * subject.mask).astype("f4")
            nib.save(nib.Nifti1Image(values, subject.affine), path)
    return folder


def test_channels_are_put_together_and_lesions_are_no_reference(
    dataset: Path, tmp_path: Path
) -> None:
    from isles2022 import cases, stack

    found = cases(dataset)
    assert [one.name for one in found] == [f"sub-strokecase{i + 1:04d}" for i in range(CASES)]
    healthy = stack(found[0], tmp_path / "healthy", healthy=True)
    ill = stack(found[0], tmp_path / "ill", healthy=False)
    masks = [
        np.asarray(nib.load(path.with_name(f"{start(1)}_desc-brain_mask.nii.gz")).dataobj) > 0
        for path in (healthy, ill)
    ]
    lesion = np.asarray(nib.load(found[0].labels).dataobj) > 0
    assert not (masks[0] & lesion).any()
    assert (masks[1] >= masks[0]).all()
    assert (masks[1] & lesion).sum() == lesion.sum() > 0
    channels = np.asarray(nib.load(ill).dataobj)
    np.testing.assert_allclose(np.median(channels[masks[1]], axis=0), 1.0, rtol=1e-5)


def test_images_with_the_skull_are_refused(dataset: Path, tmp_path: Path) -> None:
    from isles2022 import Patient, stack

    for kind in ("dwi", "adc"):
        image = nib.Nifti1Image(np.ones((8, 8, 8), np.float32), np.eye(4))
        nib.save(image, tmp_path / f"sub-a_{kind}.nii.gz")
    case = Patient("sub-a", "stroke", tmp_path / "sub-a_dwi.nii.gz", tmp_path / "sub-a_msk.nii.gz")
    with pytest.raises(InputError, match=r"above 0 in 100% of the image; expected .* stripped"):
        stack(case, tmp_path / "out", healthy=False)


def test_the_section_is_named_a_demonstration(
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unregistered: None,
    undrawn: None,
) -> None:
    import isles2022
    import summary

    monkeypatch.setattr(summary, "RESAMPLES", 50)
    line = [str(dataset), "--quick", "--reference", "4", "--cache", str(tmp_path)]
    isles2022.main(line)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "a demonstration" in text
    assert "There are no healthy people in the dataset" in text
    assert "### stroke, 2 patients" in text
    for name, knows in isles2022.TOLD.items():
        rows = re.findall(rf"^\| {re.escape(name)} \| {knows} \| (.*) \|$", text, re.MULTILINE)
        assert len(rows) == 1
    dwi = re.search(r"^\| DWI over the brain \| sign \| ([01]\.\d+)", text, re.MULTILINE)
    assert dwi is not None and float(dwi[1]) > 0.6  # lesions are bright
    assert "| latent-placed-distance | placed-distance |" not in text  # which is ours too
    assert "| z of low ADC at the place | place, sign |" in text


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import isles2022

    with pytest.raises(SystemExit) as stopped:
        isles2022.main([str(tmp_path)])
    assert stopped.value.code == 2
    assert "no case with DWI, ADC and labels" in " ".join(capsys.readouterr().err.split())


def test_the_help_says_what_stands_for_healthy_people(tmp_path: Path) -> None:
    told = " ".join(help_of("isles2022.py", tmp_path).split())
    for wanted in ("7153326", "A demonstration, and no proof", "lesion-free tissue", "--reference"):
        assert wanted in told
