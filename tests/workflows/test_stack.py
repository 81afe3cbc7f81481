"""Separate images become one 4-D file a person: from the command line to `fit` and `map`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.model.novelty_model import NoveltyModel
from tests.conftest import Run, tree_of

AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2, 0, -7], [0, 0, 3, 1], [0, 0, 0, 1]])
SHAPE = (8, 9, 6)
UNITS = {"dwi": 900.0, "adc": 1e-3}
PAIR = "'DWI=*/dwi.nii.gz' 'ADC=*/adc.nii.gz'"


def write(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    image = nib.Nifti1Image(values, affine)
    image.set_sform(affine, 2)
    image.set_qform(affine, 1)
    nib.save(image, path)


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """DWI, ADC and a mask of four people, in a folder each."""
    random = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:7, 1:8, 1:5] = 1
    for who in ("ann", "ben", "cat", "dan"):
        for name, unit in UNITS.items():
            values = (unit * (1 + random.random(SHAPE))).astype(np.float32)
            write(tmp_path / who / f"{name}.nii.gz", values)
        write(tmp_path / who / "brain_mask.nii.gz", mask)
    return tmp_path


def refused(call: Run, line: str, folder: Path, status: int = 2) -> str:
    """What is said where nothing is written."""
    before = tree_of(folder)
    outcome = call(line, folder)
    assert outcome.status == status, outcome.stderr
    assert tree_of(folder) == before
    return " ".join(outcome.stderr.split())


def test_a_stack_holds_the_images_in_order_on_the_grid_of_the_first(
    people: Path, call: Run
) -> None:
    assert call(f"stack {PAIR} -o stacks", people).status == 0
    names = {f"{who}{end}" for who in ("ann", "ben", "cat", "dan") for end in (".json", ".nii.gz")}
    masks = {f"{who}_mask.nii.gz" for who in ("ann", "ben", "cat", "dan")}
    assert {path.name for path in (people / "stacks").iterdir()} == names | masks
    stack = nib.load(people / "stacks/ben.nii.gz")
    for at, name in enumerate(UNITS):
        source = nib.load(people / f"ben/{name}.nii.gz")
        assert (stack.get_fdata()[..., at] == source.get_fdata()).all()
    assert stack.get_data_dtype() == np.float32
    assert (stack.affine == AFFINE).all()
    assert (stack.header["sform_code"], stack.header["qform_code"]) == (2, 1)
    mask = nib.load(people / "stacks/ben_mask.nii.gz").get_fdata()
    assert (mask == nib.load(people / "ben/brain_mask.nii.gz").get_fdata()).all()
    assert json.loads((people / "stacks/ben.json").read_text()) == {
        "Channels": ["DWI", "ADC"],
        "Sources": [f"../ben/{name}.nii.gz" for name in ("dwi", "adc", "brain_mask")],
    }


def test_the_line_that_is_told_fits_and_names_the_channels(people: Path, call: Run) -> None:
    told = call(f"stack {PAIR} -o stacks", people).stderr.splitlines()[-1]
    assert told == "qspace-nd fit stacks/*.nii.gz --channels DWI,ADC"
    fit = "--epochs 1 --no-calibrate --no-template -f"
    for line in (told.removeprefix("qspace-nd "), "fit stacks"):  # the JSON files tell them too
        outcome = call(f"{line} {fit}", people)
        assert outcome.status == 0, outcome.stderr
        assert "HAS NO B-VALUES" not in outcome.stderr
        acquisition = NoveltyModel.load(people / "qspace-nd-model").acquisition_
        assert acquisition is not None and acquisition.stack is not None
        assert acquisition.stack.names == ("DWI", "ADC")
    shown = call("check stacks/ann.nii.gz", people).stdout
    assert "by the JSON file beside it they are 1 (DWI), 2 (ADC)" in " ".join(shown.split())
    turned = "stack 'ADC=ann/adc.nii.gz' 'DWI=ann/dwi.nii.gz' -o turned"
    assert call(turned, people).status == 0
    assert "has the channels ADC, DWI by the JSON file beside it, expected DWI, ADC" in refused(
        call, "map turned/ann.nii.gz -o novelty.nii.gz", people
    )
    assert "--channels calls the channels ADC,DWI, and the JSON files beside the scans DWI,ADC" in (
        refused(call, "fit stacks --model new --channels ADC,DWI", people)
    )
    assert call("map stacks/ann.nii.gz -o novelty.nii.gz", people).status == 0


def test_channels_may_be_divided_by_their_means_in_the_mask(people: Path, call: Run) -> None:
    assert call(f"stack {PAIR} -o stacks --divide-by-mean", people).status == 0
    inside = nib.load(people / "ann/brain_mask.nii.gz").get_fdata() > 0
    stack = nib.load(people / "stacks/ann.nii.gz").get_fdata()
    np.testing.assert_allclose(stack[inside].mean(0), 1, rtol=1e-5)
    told = json.loads((people / "stacks/ann.json").read_text())["DividedBy"]
    own = [nib.load(people / f"ann/{name}.nii.gz").get_fdata()[inside].mean() for name in UNITS]
    np.testing.assert_allclose(told, own, rtol=1e-6)
    (people / "ann/brain_mask.nii.gz").unlink()
    assert "ann/dwi.nii.gz has no brain mask beside it, in which to take the means" in refused(
        call, f"stack {PAIR} -o others --divide-by-mean", people
    )


def test_without_a_mask_that_is_said_and_one_may_be_named(people: Path, call: Run) -> None:
    for path in people.glob("*/brain_mask.nii.gz"):
        path.rename(path.with_name("inside.nii.gz"))
    outcome = call(f"stack {PAIR} -o stacks", people)
    assert outcome.status == 0
    assert "4 stacks of 4 (stacks/ann.nii.gz, stacks/ben.nii.gz" in outcome.stderr
    assert not list((people / "stacks").glob("*_mask.nii.gz"))
    outcome = call(f"stack {PAIR} -o stacks --mask=*/inside.nii.gz -f", people)
    assert (outcome.status, "have no brain mask" in outcome.stderr) == (0, False)
    assert len(list((people / "stacks").glob("*_mask.nii.gz"))) == 4


def test_images_that_do_not_fit_together_are_refused(people: Path, call: Run) -> None:
    line = f"stack {PAIR} -o stacks"
    adc = people / "cat/adc.nii.gz"
    kept = adc.read_bytes()
    for shape, affine, found in (
        ((8, 9, 5), AFFINE, "found 8 x 9 x 5 voxels"),
        (SHAPE, AFFINE @ np.diag([1, 1, 1.1, 1]), "found 8 x 9 x 6 voxels of 2 x 2 x 3.3 mm"),
    ):
        write(adc, np.ones(shape, np.float32), affine)
        said = refused(call, line, people)
        assert f"cat/adc.nii.gz lies on another grid than cat/dwi.nii.gz: {found}" in said
        assert "expected 8 x 9 x 6 voxels of 2 x 2 x 3 mm" in said
        assert said.endswith("resample the images of a person onto one grid first, or name others.")
    write(adc, np.ones((*SHAPE, 2), np.float32))
    said = refused(call, line, people)
    assert "cat/adc.nii.gz has the shape 8 x 9 x 6 x 2; expected a 3-D image" in said
    adc.write_bytes(kept[: len(kept) // 2])  # which shows when the others are written already
    assert "cat/adc.nii.gz is truncated or corrupt" in refused(call, line, people)
    adc.unlink()
    assert "cat/dwi.nii.gz has no ADC of the same person, 'cat' by its name: found 4 images" in (
        refused(call, line, people)
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("'DWI=*/dwi.nii.gz' 'DWI=*/adc.nii.gz'", "Two channels are called DWI; give each a name"),
        ("'DWI=*/dwi.nii.gz'", "one channel (DWI) was named"),
        ("'B-0=*/dwi.nii.gz' 'ADC=*/adc.nii.gz'", "'B-0' is no name of a channel"),
        ("'*/dwi.nii.gz'", "has no channel's name before it; expected NAME=PATTERN"),
        ("'=*/dwi.nii.gz'", "has no name before =; expected NAME=PATTERN"),
        ("", "Missing argument 'NAME=PATTERN...', or --bids and --suffix in its place"),
        ("--bids . 'DWI=*/dwi.nii.gz'", "or a BIDS dataset, not both"),
        ("--bids .", "--bids and --suffix go together"),
        (f"{PAIR} --suffix dwi,adc", "--bids and --suffix go together"),
        ("--bids . --suffix dwi,dwi", "Two suffixes are dwi"),
        ("--bids . --suffix dwi,adc", "is not a BIDS dataset"),
    ],
)
def test_what_cannot_be_meant_is_said(line: str, says: str, people: Path, call: Run) -> None:
    assert says in refused(call, f"stack {line} -o stacks", people)


def test_nothing_is_overwritten_unasked_and_an_image_never(people: Path, call: Run) -> None:
    line = f"stack {PAIR} -o stacks"
    assert call(line, people).status == 0
    assert "stacks/ann.nii.gz exists already" in refused(call, line, people)
    assert call(f"{line} -f", people).status == 0
    for who in ("ann", "ben"):
        shutil.copy(people / f"{who}/adc.nii.gz", people / f"{who}.nii.gz")
    own = "'ADC=???.nii.gz' 'DWI=???/dwi.nii.gz' -o . -f"
    for who in ("cat", "dan"):
        shutil.rmtree(people / who)
    assert "ann.nii.gz is one of the images that are to be stacked" in (
        refused(call, f"stack {own}", people)
    )


def test_a_bids_dataset_is_stacked_by_suffixes(people: Path, call: Run) -> None:
    dataset = people / "ds"
    for number, who in enumerate(("ann", "ben"), 1):
        for ses in ("1", "2"):
            place = dataset / f"sub-0{number}/ses-{ses}/dwi"
            place.mkdir(parents=True)
            for name in ("dwi", "adc", "desc-brain_mask"):
                source = people / who / f"{name.removeprefix('desc-')}.nii.gz"
                shutil.copy(source, place / f"sub-0{number}_ses-{ses}_{name}.nii.gz")
    (dataset / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    line = "stack --bids ds --suffix dwi,adc --participant-label 02 --where ses=2 -o stacks"
    outcome = call(line, people)
    assert outcome.status == 0, outcome.stderr
    assert "--channels dwi,adc" in outcome.stderr
    names = {f"sub-02_ses-2{end}" for end in (".nii.gz", "_mask.nii.gz", ".json")}
    assert {path.name for path in (people / "stacks").iterdir()} == names
    shown = call("check stacks", people).stdout  # two visits of one person stay hers
    assert "Subject sub-02;" in shown and "in the mask stacks/sub-02_ses-2_mask.nii.gz" in shown
