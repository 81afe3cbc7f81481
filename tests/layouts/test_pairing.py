from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.errors import LabelError, ScanError
from qspace_nd.layouts.maps import MapRecord, write_sidecar
from qspace_nd.layouts.pairing import find_maps, group_by_patient, pair, pair_regions
from tests.layouts.files import touch

BIDS_MAP = "sub-{}_model-vae_param-{}_dwimap.nii.gz"


def patients_of(*paths: Path) -> list[list[MapRecord]]:
    return group_by_patient(find_maps(paths), ["input-distance", "latent-distance"])


def bids_maps(folder: Path, *subjects: str, score: str = "latentDistance") -> list[Path]:
    return touch(folder, *(f"sub-{s}/dwi/{BIDS_MAP.format(s, score)}" for s in subjects))


# --- Finding maps


def test_maps_are_taken_in_the_order_in_which_they_are_named(tmp_path: Path) -> None:
    b, a = touch(tmp_path, "b.nii.gz", "a.nii")
    assert [record.path for record in find_maps([b, a, b])] == [b, a]


def test_a_folder_gives_its_novelty_maps_and_passes_masks_over(tmp_path: Path) -> None:
    maps = touch(tmp_path, "p1_novelty.nii.gz", "p2_novelty_latent-distance.nii.gz")
    maps += bids_maps(tmp_path, "01")
    touch(
        tmp_path,
        "p1_novelty_mask.nii.gz",
        "t1.nii.gz",
        "sub-01/dwi/sub-01_desc-brain_mask.nii.gz",
        ".p1_novelty.nii.gz.0a1b.nii.gz",
    )
    assert {record.path for record in find_maps([tmp_path])} == set(maps)


@pytest.mark.parametrize(
    ("name", "says"),
    [("absent.nii.gz", "absent.nii.gz does not exist"), ("notes.txt", "not a NIfTI file by its")],
)
def test_what_is_no_map_is_named(name: str, says: str, tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ScanError, match=says):
        find_maps([tmp_path / name])


def test_a_folder_without_a_map_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "t1.nii.gz")
    with pytest.raises(ScanError, match=r"There is no novelty map in .*; write one with qspace-nd"):
        find_maps([tmp_path])


def test_maps_of_one_scan_are_one_patient(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a.nii.gz", "b.nii.gz", "c.nii.gz")
    for path, scan in zip(paths, ("p1.nii.gz", "p2.nii.gz", "p1.nii.gz"), strict=True):
        write_sidecar(path, {"Score": path.name}, [tmp_path / scan])
    found = [[record.path for record in patient] for patient in patients_of(*paths)]
    assert found == [[paths[0], paths[2]], [paths[1]]]


def test_the_maps_of_a_scan_stand_in_the_order_of_their_scores(tmp_path: Path) -> None:
    paths = touch(tmp_path, "a.nii.gz", "b.nii.gz", "c.nii.gz")
    for path, score in zip(paths, ("other", "latent-distance", "input-distance"), strict=True):
        write_sidecar(path, {"Score": score}, [tmp_path / "p1.nii.gz"])
    (patient,) = patients_of(*paths)
    assert [record.score for record in patient] == ["input-distance", "latent-distance", "other"]


# --- Choosing labels


def test_files_are_matched_by_their_order(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "m2.nii.gz", "m1.nii.gz"))
    labels = touch(tmp_path, "l1.nii.gz", "l2.nii.gz")
    assert pair(patients, labels, "--labels") == labels


@pytest.mark.parametrize(("maps", "labels"), [(2, 1), (1, 2), (3, 2)])
def test_other_numbers_of_maps_and_labels_are_refused(
    maps: int, labels: int, tmp_path: Path
) -> None:
    patients = patients_of(*touch(tmp_path, *(f"m{i}.nii.gz" for i in range(maps))))
    files = touch(tmp_path, *(f"l{i}.nii.gz" for i in range(labels)))
    with pytest.raises(
        LabelError, match=rf"maps of {maps} patients? but {labels} files? for --labels; give"
    ):
        pair(patients, files, "--labels")


def test_bids_names_are_matched_by_their_entities(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path, "02", "01"))
    one, two = touch(tmp_path, "sub-01_desc-lesion_mask.nii.gz", "sub-02_desc-lesion_mask.nii.gz")
    assert pair(patients, [one, two], "--labels") == [two, one]


def test_labels_without_a_session_serve_all_of_them_and_others_do_not(tmp_path: Path) -> None:
    patients = patients_of(
        *touch(tmp_path, *(f"sub-1_ses-{s}_param-x_dwimap.nii.gz" for s in ("a", "b")))
    )
    (shared,) = touch(tmp_path, "sub-1_label-lesion_mask.nii.gz")
    assert pair(patients, [shared], "--labels") == [shared, shared]
    (of_a,) = touch(tmp_path, "sub-1_ses-a_label-lesion_mask.nii.gz")
    with pytest.raises(LabelError, match=r"sub-1_ses-b.* is wanted, found: none"):
        pair(patients, [of_a], "--labels")


def test_a_folder_of_masks_gives_the_lesions(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path / "maps", "01", "02"))
    masks = tmp_path / "masks"
    touch(
        masks,
        *(f"sub-{s}_{e}_mask.nii.gz" for s in ("01", "02") for e in ("desc-brain", "label-WM")),
    )
    lesions = touch(masks, *(f"sub-{s}_desc-lesion_mask.nii.gz" for s in ("01", "02")))
    assert pair(patients, [masks], "--labels") == lesions


def test_a_folder_without_lesions_by_name_gives_its_labels(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path / "maps", "01"))
    touch(tmp_path / "masks", "sub-01_desc-brain_mask.nii.gz")
    labels = touch(tmp_path / "masks", "sub-01_label-MS_mask.nii.gz")
    assert pair(patients, [tmp_path / "masks"], "--labels") == labels


def test_a_folder_is_searched_for_the_patients_names_as_whole_words(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "p1_novelty.nii.gz", "p10_novelty.nii.gz"))
    labels = touch(tmp_path / "labels", "p1_lesions.nii.gz", "p10_lesions.nii.gz")
    assert pair(patients, [tmp_path / "labels"], "--labels") == labels


def test_a_label_is_of_the_patient_with_the_longest_name_in_it(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "HC_1_novelty.nii.gz", "HC_1_2_novelty.nii.gz"))
    (longer,) = touch(tmp_path / "labels", "HC_1_2_lesions.nii.gz")
    with pytest.raises(LabelError, match=r"HC_1_novelty.nii.gz one image .*, found: none"):
        pair(patients, [tmp_path / "labels"], "--labels")
    (shorter,) = touch(tmp_path / "labels", "HC_1_lesions.nii.gz")
    assert pair(patients, [tmp_path / "labels"], "--labels") == [shorter, longer]


def test_files_are_not_matched_against_their_names(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path, "01", "02"))
    two, one, other = touch(
        tmp_path, *(f"{n}_lesion_mask.nii.gz" for n in ("sub-02", "sub-01", "drawn"))
    )
    assert pair(patients, [two, one], "--labels") == [one, two]
    with pytest.raises(LabelError, match=r"sub-02_lesion.* of sub-01 by its place, but is of "):
        pair(patients, [two, other], "--labels")
    assert pair(patients, [one, other], "--labels") == [one, other]


def test_folders_that_are_links_are_searched(tmp_path: Path) -> None:
    (scan,) = bids_maps(tmp_path / "elsewhere", "01")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "linked").symlink_to("../elsewhere")
    (record,) = find_maps([tmp_path / "maps"])
    assert record.path.samefile(scan)


def test_labels_and_sidecars_that_are_not_here_are_to_be_fetched(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path / "maps", "01"))
    (tmp_path / "l.nii.gz").symlink_to("gone")
    with pytest.raises(ScanError, match=r"l.nii.gz is a link to content that is not here"):
        pair(patients, [tmp_path / "l.nii.gz"], "--labels")
    (tmp_path / "m.nii.gz").touch()
    (tmp_path / "m.json").symlink_to("m.json")
    with pytest.raises(ScanError, match=r"m.json is a link to content that is not here"):
        find_maps([tmp_path / "m.nii.gz"])


def test_words_of_other_letters_are_words(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "M_novelty.nii.gz", "Mü_novelty.nii.gz"))
    labels = touch(tmp_path / "labels", "M_lesions.nii.gz", "Mü_lesions.nii.gz")
    assert pair(patients, [tmp_path / "labels"], "--labels") == labels


def test_all_that_tells_scans_apart_tells_their_labels_apart(tmp_path: Path) -> None:
    maps = touch(tmp_path, *(f"sub-1_rec-{r}_param-x_dwimap.nii.gz" for r in ("a", "b")))
    labels = touch(tmp_path, *(f"sub-1_rec-{r}_label-lesion_mask.nii.gz" for r in ("b", "a")))
    assert pair(patients_of(*maps), labels, "--labels") == labels[::-1]


def test_two_labels_of_one_patient_are_refused_by_name(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path, "01"))
    touch(tmp_path / "l", "sub-01_desc-lesion_mask.nii.gz", "sub-01_label-lesion_mask.nii.gz")
    with pytest.raises(LabelError, match=r"found: sub-01_desc-lesion_mask.nii.gz, sub-01_label-"):
        pair(patients, [tmp_path / "l"], "--labels")


# --- Choosing regions


def test_the_regions_of_one_patient_are_called_as_their_files(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "p1_novelty.nii.gz"))
    white, grey = touch(tmp_path, "white_matter.nii.gz", "p1_grey.nii.gz")
    assert pair_regions(patients, [white, grey], "brain") == [{"white_matter": white, "grey": grey}]


@pytest.mark.parametrize("by_folder", [False, True])
def test_regions_are_those_of_each_patient_under_one_name(by_folder: bool, tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "p1_novelty.nii.gz", "p2_novelty.nii.gz"))
    names = ("p2_white.nii.gz", "p1_white.nii.gz", "p1_grey.nii.gz", "p2_grey.nii.gz")
    white2, white1, grey1, grey2 = files = touch(tmp_path / "regions", *names)
    found = pair_regions(patients, [tmp_path / "regions"] if by_folder else files, "brain")
    assert found == [{"white": white1, "grey": grey1}, {"white": white2, "grey": grey2}]


def test_bids_regions_are_called_by_what_does_not_tell_the_scan(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path, "01", "02"))
    names = [f"sub-{s}_label-{r}_mask.nii.gz" for s in ("02", "01") for r in ("WM", "GM")]
    white2, grey2, white1, grey1 = files = touch(tmp_path, *names)
    assert pair_regions(patients, files, "brain") == [
        {"label-WM_mask": white1, "label-GM_mask": grey1},
        {"label-WM_mask": white2, "label-GM_mask": grey2},
    ]


def test_a_folder_may_hold_regions_of_other_patients_too(tmp_path: Path) -> None:
    patients = patients_of(*touch(tmp_path, "p1_novelty.nii.gz"))
    _, own = touch(tmp_path / "regions", "p10_white.nii.gz", "p1_white.nii.gz")
    assert pair_regions(patients, [tmp_path / "regions"], "brain") == [{"white": own}]


@pytest.mark.parametrize(
    ("names", "region"),
    [
        (["a_white.nii.gz", "b_white.nii.gz"], "white"),
        (["a.nii.gz", "b.nii.gz"], "region"),
        (["brain_a.nii.gz", "brain_b.nii.gz"], "region"),
    ],
)
def test_regions_in_the_order_of_the_maps_have_what_their_names_share(
    names: list[str], region: str, tmp_path: Path
) -> None:
    patients = patients_of(*touch(tmp_path, "m1.nii.gz", "m2.nii.gz"))
    first, second = files = touch(tmp_path, *names)
    assert pair_regions(patients, files, "brain") == [{region: first}, {region: second}]


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["p1_white.nii.gz", "p1_grey.nii.gz", "p2_white.nii.gz"], "regions of p1 are white, grey"),
        (["p1_x.nii.gz", "p2_x.nii.gz", "more/p2_x.nii.gz"], r"more/p2_x.nii.gz would be called x"),
        (["p1_brain.nii.gz", "p2_brain.nii.gz"], "called brain, as the whole mask is; give"),
        (["a.nii.gz", "b.nii.gz", "c.nii.gz"], "maps of 2 patients but 3 files for --within"),
    ],
)
def test_regions_that_cannot_be_told_apart_are_refused(
    names: list[str], says: str, tmp_path: Path
) -> None:
    patients = patients_of(*touch(tmp_path, "p1_novelty.nii.gz", "p2_novelty.nii.gz"))
    with pytest.raises(LabelError, match=says):
        pair_regions(patients, touch(tmp_path / "regions", *names), "brain")


def test_a_bids_patient_without_a_region_is_refused(tmp_path: Path) -> None:
    patients = patients_of(*bids_maps(tmp_path, "01", "02"))
    (region,) = touch(tmp_path, "sub-01_label-WM_mask.nii.gz")
    with pytest.raises(LabelError, match=r"sub-02_.* one image of --within is wanted, found: none"):
        pair_regions(patients, [region], "brain")
