"""Which images are of one person: by BIDS entities, or by what a pattern's `*` stands for."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path

import pytest

from qspace_nd.errors import InputError, ScanError
from qspace_nd.layouts.bids import Dataset
from qspace_nd.layouts.contrasts import (
    Contrasts,
    match_patterns,
    match_suffixes,
    require_channels,
)
from tests.layouts.files import touch


def matched(folder: Path, mask: str | None = None, **patterns: str) -> list[Contrasts]:
    """What is matched in a folder, whose paths are written from there."""
    with chdir(folder):
        channels = {name: [Path(word) for word in text.split()] for name, text in patterns.items()}
        return match_patterns(channels, None if mask is None else Path(mask))


def names(stacks: list[Contrasts]) -> list[str]:
    return [one.name for one in stacks]


@pytest.mark.parametrize(
    ("files", "patterns", "called"),
    [
        ("{}/dwi.nii.gz {}/adc.nii.gz", "*/dwi.nii.gz */adc.nii.gz", "{}"),
        ("{}_dwi.nii {}_adc.nii.gz", "*_dwi.nii* *_adc.nii*", "{}"),
        ("dwi/{}.nii.gz adc/{}.nii.gz", "dwi/*.nii.gz adc/*", "{}"),
        ("dwi-{}.nii.gz adc-{}.nii.gz", "dwi-*.nii.gz adc-*.nii.gz", "{}"),
        ("s-{}/dwi.nii.gz s-{}/adc.nii.gz", "s-*/dwi.nii.gz s-*/adc.nii.gz", "s-{}"),
        ("{}/a/dwi.nii.gz {}/a/adc.nii.gz", "**/dwi.nii.gz **/adc.nii.gz", "{}_a"),
        ("{}/a/{}_dwi.nii {}/b/{}_adc.nii", "*/a/*_dwi.nii */b/*_adc.nii", "{}"),
        ("{}/T1/dwi.nii.gz {}/T1/adc.nii.gz", "*/*/dwi.nii.gz */*/adc.nii.gz", "{}_T1_contrasts"),
        ("{}/dwi.nii.gz {}.nii.gz", "??/dwi.nii.gz [p]?.nii.gz", "{}"),
        ("{}/dwi.nii.gz {}/adc.nii.gz", "p[!x]/dwi.nii.gz p?/adc.nii.gz", "{}"),
    ],
)
def test_images_with_the_same_in_place_of_the_star_are_of_one_person(
    files: str, patterns: str, called: str, tmp_path: Path
) -> None:
    for who in ("p1", "p2"):
        touch(tmp_path, *files.replace("{}", who).split())
    one, other = patterns.split()
    found = matched(tmp_path, DWI=one, ADC=other)
    assert names(found) == [called.replace("{}", who) for who in ("p1", "p2")]
    for who, stack in zip(("p1", "p2"), found, strict=True):
        assert [*stack.images] == ["DWI", "ADC"]
        assert [str(path) for path in stack.images.values()] == files.replace("{}", who).split()


def test_paths_may_be_written_out(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{who}/{kind}.nii" for who in ("p1", "p2") for kind in ("t1", "t2")))
    found = matched(tmp_path, T1="p1/t1.nii p2/t1.nii", T2="p2/t2.nii p1/t2.nii")
    assert names(found) == ["p1", "p2"]
    assert [str(one.images["T2"]) for one in found] == ["p1/t2.nii", "p2/t2.nii"]
    assert names(matched(tmp_path, T1="p1/t1.nii", T2="p1/t2.nii")) == ["p1"]
    touch(tmp_path, "ann_t1.nii", "ann_t2.nii")
    assert names(matched(tmp_path, T1="ann_t1.nii", T2="ann_t2.nii")) == ["ann"]


def test_bids_names_are_matched_by_their_entities(tmp_path: Path) -> None:
    for sub in ("01", "02"):
        for ses in ("a", "b"):
            who = f"sub-{sub}_ses-{ses}"
            touch(tmp_path, f"{who}_acq-mprage_T1w.nii.gz", f"x/{who}_acq-space_FLAIR.nii.gz")
            touch(tmp_path, f"{who}_desc-brain_mask.nii.gz")
    found = matched(tmp_path, T1w="sub-*_T1w.nii.gz", FLAIR="x/*_ses-?_*.nii.gz")
    assert names(found) == [f"sub-{sub}_ses-{ses}" for sub in ("01", "02") for ses in ("a", "b")]
    (last,) = found[-1:]
    assert last.images["FLAIR"].name == "sub-02_ses-b_acq-space_FLAIR.nii.gz"
    assert last.mask is None  # by its name it is not of acq-mprage
    masked = matched(tmp_path, "*_mask.nii.gz", T1w="sub-*_T1w.nii.gz", FLAIR="x/*FLAIR.nii.gz")
    assert [one.mask and one.mask.name for one in masked] == [
        f"{one.name}_desc-brain_mask.nii.gz" for one in masked
    ]


def test_masks_lie_beside_any_image_and_are_none_themselves(tmp_path: Path) -> None:
    touch(tmp_path, "flair/p1.nii.gz", "t1/p1.nii.gz", "t1/p1_mask.nii.gz")
    (one,) = matched(tmp_path, FLAIR="flair/*.nii.gz", T1w="t1/*.nii.gz")
    assert str(one.mask) == "t1/p1_mask.nii.gz"


@pytest.mark.parametrize(
    ("dwi", "adc", "says"),
    [
        ("*/dwi.nii", "*/adc.nii", r"^p2/dwi.nii has no ADC of the same person, 'p2' by its name, "
         r"nor have 1 other: found 3 images of DWI and 1 of ADC, expected one of each"),
        ("p1/dwi.nii", "*/dwi.nii", r"^p1/dwi.nii has no ADC of the same person: found 1 image"),
        ("p1/*", "p?/*", r"^p1/adc.nii has no ADC of the same person, 'adc' by"),
        ("*/dw?.nii", "q*/dwi.nii", r"^q\*/dwi.nii, given for ADC, matches no NIfTI image"),
        ("p1/dwi.nii", "q/dwi.nii", r"^q/dwi.nii, given for ADC, does not exist; expected"),
        ("p1/dwi.nii", "p1", r"^p1, given for ADC, is no NIfTI image; expected"),
        ("p1/dwi.nii p1/dwi.nii", "p1/adc.nii", "are both the DWI of one person"),
    ],
)  # fmt: skip
def test_what_cannot_be_matched_is_refused(dwi: str, adc: str, says: str, tmp_path: Path) -> None:
    touch(tmp_path, "p1/dwi.nii", "p2/dwi.nii", "p3/dwi.nii", "p1/adc.nii", "p1/adc.json")
    with pytest.raises(ScanError, match=says):
        matched(tmp_path, DWI=dwi, ADC=adc)


def test_a_mask_that_is_named_is_wanted_for_everybody(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{who}/{kind}.nii" for who in ("p1", "p2") for kind in ("t1", "t2")))
    touch(tmp_path, "p1/brain.nii")
    with pytest.raises(ScanError, match=r"^p2/t1.nii has no mask of the same person, 'p2'"):
        matched(tmp_path, "*/brain.nii", T1="*/t1.nii", T2="*/t2.nii")


def test_images_of_a_dataset_are_those_of_chosen_participants(tmp_path: Path) -> None:
    facts = {"Name": "x", "BIDSVersion": "1.10.0"}
    (tmp_path / "dataset_description.json").write_text(json.dumps(facts))
    (tmp_path / "participants.tsv").write_text("participant_id\tgroup\nsub-01\tc\nsub-02\tp\n")
    for sub in ("01", "02"):
        touch(tmp_path / f"sub-{sub}/anat", f"sub-{sub}_T1w.nii.gz", f"sub-{sub}_FLAIR.nii.gz")
        touch(tmp_path / f"sub-{sub}/anat", f"sub-{sub}_desc-brain_mask.nii.gz")
    (one,) = match_suffixes(Dataset(tmp_path, where=["group=c"]), ["FLAIR", "T1w"])
    assert (one.name, [*one.images]) == ("sub-01", ["FLAIR", "T1w"])
    assert one.mask is not None and one.mask.name == "sub-01_desc-brain_mask.nii.gz"
    with pytest.raises(ScanError, match=r"no image sub-\*_T2w.nii.gz .* where group=p; expected"):
        match_suffixes(Dataset(tmp_path, where=["group=p"]), ["FLAIR", "T2w"])


def test_one_channel_is_no_stack() -> None:
    require_channels(["T1w", "T2w"])
    for few, says in (["T1w"], r"one channel \(T1w\)"), ([], "none was named"):
        with pytest.raises(InputError, match=says):
            require_channels(few)
