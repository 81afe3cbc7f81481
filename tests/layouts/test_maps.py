from __future__ import annotations

import json
from pathlib import Path

import pytest

from qspace_nd.errors import InputError, ScanError
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.maps import (
    MapFiles,
    name_maps,
    read_record,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from qspace_nd.layouts.scans import find_scans
from tests.layouts.files import touch

ONE = ["latent-distance"]
TWO = ["latent-distance", "input-distance"]


def scans_of(folder: Path, *names: str) -> list[ScanFiles]:
    return find_scans(touch(folder, *names))


def relative(files: MapFiles, folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files.paths()]


# --- Names


def test_an_output_names_the_map_of_one_scan(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "patient.nii.gz")
    (files,) = name_maps(scans, tmp_path / "out" / "novelty.nii.gz", ONE)
    assert files.maps == {"latent-distance": tmp_path / "out" / "novelty.nii.gz"}
    assert files.mask == tmp_path / "out" / "novelty_mask.nii.gz"
    assert files.dataset is None
    assert tmp_path / "out" / "novelty.json" in files.paths()


def test_several_scores_are_told_apart_by_their_names(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "patient.nii.gz")
    (files,) = name_maps(scans, tmp_path / "novelty.nii.gz", TWO)
    assert sorted(relative(files, tmp_path)) == [
        "novelty_input-distance.json",
        "novelty_input-distance.nii.gz",
        "novelty_latent-distance.json",
        "novelty_latent-distance.nii.gz",
        "novelty_mask.nii.gz",
    ]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ"])
def test_the_ending_that_was_asked_for_is_kept(tmp_path: Path, suffix: str) -> None:
    scans = scans_of(tmp_path, "patient.nii.gz")
    (files,) = name_maps(scans, tmp_path / f"map.v2{suffix}", ONE)
    assert files.maps["latent-distance"].name == f"map.v2{suffix}"
    assert files.mask.name == f"map.v2_mask{suffix}"


def test_a_bids_scan_may_be_named_by_an_output_too(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "sub-01_dwi.nii.gz")
    (files,) = name_maps(scans, Path("novelty.nii.gz"), ONE)
    assert files.maps["latent-distance"] == Path("novelty.nii.gz")


def test_scans_get_their_own_names_in_a_folder(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "p1.nii.gz", "p2.nii")
    files = name_maps(scans, tmp_path / "maps", TWO)
    assert [path.name for path in files[0].maps.values()] == [
        "p1_novelty_latent-distance.nii.gz",
        "p1_novelty_input-distance.nii.gz",
    ]
    assert files[1].mask == tmp_path / "maps" / "p2_novelty_mask.nii.gz"
    assert files[1].dataset is None


@pytest.mark.parametrize(
    ("scan", "folder", "entities"),
    [
        ("sub-01_dwi.nii.gz", "sub-01/dwi", "sub-01"),
        ("sub-01_ses-2_run-1_dwi.nii.gz", "sub-01/ses-2/dwi", "sub-01_ses-2_run-1"),
        (
            "sub-01_acq-hi_dir-AP_space-T1w_desc-preproc_dwi.nii.gz",
            "sub-01/dwi",
            "sub-01_acq-hi_dir-AP_space-T1w",
        ),
    ],
)
def test_bids_scans_get_the_names_of_bids_derivatives(
    tmp_path: Path, scan: str, folder: str, entities: str
) -> None:
    output = tmp_path / "derivatives" / "qspace-nd"
    (files,) = name_maps(scans_of(tmp_path, scan), output, TWO)
    place = output / folder
    assert files.dataset == output
    assert files.mask == place / f"{entities}_desc-brain_mask.nii.gz"
    assert files.maps == {
        "latent-distance": place / f"{entities}_model-vae_param-latentDistance_dwimap.nii.gz",
        "input-distance": place / f"{entities}_model-vae_param-inputDistance_dwimap.nii.gz",
    }


def test_one_file_cannot_hold_the_maps_of_several_scans(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "p1.nii.gz", "p2.nii.gz")
    with pytest.raises(InputError, match=r"novelty\.nii\.gz names one file, but there are 2 scans"):
        name_maps(scans, tmp_path / "novelty.nii.gz", ONE)


@pytest.mark.parametrize(
    "names",
    [
        ("a/p1.nii.gz", "b/p1.nii.gz"),
        ("p1.nii.gz", "p1.nii"),
        ("a/sub-01_desc-preproc_dwi.nii.gz", "b/sub-01_desc-denoised_dwi.nii.gz"),
    ],
)
def test_two_scans_whose_maps_would_share_a_name_are_refused(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    scans = scans_of(tmp_path, *names)
    with pytest.raises(InputError, match=r"would have one name.*map them into two folders"):
        name_maps(scans, tmp_path / "maps", ONE)


def test_no_two_files_of_a_call_share_a_name(tmp_path: Path) -> None:
    scans = scans_of(tmp_path, "p1.nii.gz", "p2.nii.gz", "sub-01_dwi.nii.gz")
    paths = [p for files in name_maps(scans, tmp_path / "maps", TWO) for p in files.paths()]
    assert len(set(paths)) == len(paths) == 16


@pytest.mark.parametrize("pdf", [False, True])
def test_a_picture_lies_beside_each_map(tmp_path: Path, pdf: bool) -> None:
    scans = scans_of(tmp_path, "sub-01_dwi.nii.gz")
    (files,) = (files.with_pictures(pdf=pdf) for files in name_maps(scans, tmp_path / "out", TWO))
    pictures = [path for path in files.paths() if path.suffix in (".png", ".pdf")]
    endings = (".png", ".pdf") if pdf else (".png",)
    assert pictures == [
        tmp_path / f"out/sub-01/dwi/sub-01_model-vae_param-{score}_dwimap{ending}"
        for score in ("latentDistance", "inputDistance")
        for ending in endings
    ]


# --- Sidecars


def test_a_sidecar_is_read_back(tmp_path: Path) -> None:
    (scan,) = scans_of(tmp_path, "in/patient.nii.gz")
    image = tmp_path / "out" / "novelty.nii.gz"
    facts = {"Score": "input-distance", "Patient": "Müller", "Mask": "m.nii.gz", "Latents": 8}
    write_sidecar(image, facts, [scan.image])
    (image.parent / "m.nii.gz").touch()
    record = read_record(image)
    assert json.loads(sidecar_path(image).read_text())["Sources"] == ["../in/patient.nii.gz"]
    assert (record.path, record.score, record.patient) == (image, "input-distance", "Müller")
    assert record.source == str(scan.image.resolve())
    assert record.scan is not None
    assert record.scan.samefile(scan.image)
    assert record.mask == image.parent / "m.nii.gz"
    assert record.latents == 8


def test_a_sidecar_moves_with_the_folder_of_its_sources(tmp_path: Path) -> None:
    (scan,) = scans_of(tmp_path, "study/patient.nii.gz")
    write_sidecar(tmp_path / "study" / "out" / "novelty.nii.gz", {}, [scan.image])
    moved = (tmp_path / "study").rename(tmp_path / "elsewhere")
    record = read_record(moved / "out" / "novelty.nii.gz")
    assert record.scan is not None
    assert record.scan.samefile(moved / "patient.nii.gz")


def test_maps_of_one_scan_share_its_source(tmp_path: Path) -> None:
    (scan,) = scans_of(tmp_path, "patient.nii.gz")
    for name in ("a.nii.gz", "deep/b.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_sidecar(tmp_path / name, {}, [scan.image])
    assert (
        read_record(tmp_path / "a.nii.gz").source == read_record(tmp_path / "deep/b.nii.gz").source
    )


def test_a_map_of_another_program_is_known_by_its_name(tmp_path: Path) -> None:
    image = tmp_path / "anomaly.nii.gz"
    record = read_record(image)
    assert (record.score, record.patient) == ("anomaly", "anomaly")
    assert (record.scan, record.mask, record.latents) == (None, None, None)
    (tmp_path / "anomaly_mask.nii.gz").touch()
    assert read_record(image).mask == tmp_path / "anomaly_mask.nii.gz"


@pytest.mark.parametrize("empty", [{}, {"Sources": None, "Mask": None}, {"Sources": []}])
def test_a_sidecar_of_another_program_may_say_nothing(
    tmp_path: Path, empty: dict[str, object]
) -> None:
    (tmp_path / "map.json").write_text(json.dumps(empty))
    assert read_record(tmp_path / "map.nii.gz").patient == "map"


def test_a_bids_patient_is_called_by_its_entities(tmp_path: Path) -> None:
    name = "sub-01_ses-2_space-T1w_model-vae_param-latentDistance_dwimap.nii.gz"
    assert read_record(tmp_path / name).patient == "sub-01_ses-2_space-T1w"


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ({"Score": "looking", "Toward": "oedema"}, "looking, toward oedema"),
        ({"Score": "other", "Toward": "oedema"}, "other"),  # made beside one that looks for it
        ({"Score": "looking"}, "looking"),
        (
            {"Score": "looking", "Toward": "x", "PlaceNotUsed": "far off", "SmoothingFWHM": 6},
            "looking, toward x, without the place, 6 mm",
        ),
    ],
)
def test_what_a_score_was_told_goes_with_its_name(
    facts: dict[str, object], label: str, tmp_path: Path
) -> None:
    (tmp_path / "map.json").write_text(json.dumps(facts))
    assert read_record(tmp_path / "map.nii.gz", directed={"looking"}).score == label


@pytest.mark.parametrize("scan", ["patient.nii.gz", "sub-01_dwi.nii.gz"], ids=["plain", "bids"])
def test_what_a_map_means_by_healthy_people_is_found_beside_it(scan: str, tmp_path: Path) -> None:
    (files,) = name_maps(scans_of(tmp_path, scan), tmp_path / "out", TWO)
    files = files.with_significance(ONE)
    touch(tmp_path, *(str(path.relative_to(tmp_path)) for path in files.neglogp.values()))
    for score, path in files.maps.items():
        assert read_record(path).neglogp == files.neglogp.get(score)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b"3", b"[" * 100_000])
def test_a_sidecar_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.json").write_bytes(content)
    with pytest.raises(ScanError, match=r"map\.json is not a JSON sidecar"):
        read_record(tmp_path / "map.nii.gz")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("Patient", name) for name in ("a/../../x", "/x", "..", "a\\b", "a\nb", 3, ["a"], {})),
        *(("Score", score) for score in (3, ["a"], "../x", True)),
        *(("Mask", mask) for mask in ("../m.nii.gz", "/m.nii.gz", 1, {"a": 1})),
        *(("Sources", sources) for sources in ("a.nii.gz", [1], {"a": 1}, ["a\0b"], [["a"]])),
        *(("Latents", latents) for latents in ("8", 8.5, True, -1, [8])),
        *(("SmoothingFWHM", fwhm) for fwhm in ("6", float("nan"), float("inf"), 10**400, True)),
    ],
)
def test_facts_of_another_kind_are_refused(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "map.json").write_text(json.dumps({key: value}))
    with pytest.raises(ScanError, match=rf"map\.json has as {key} .*; expected "):
        read_record(tmp_path / "map.nii.gz")


@pytest.mark.parametrize("source", ["x" * 300, "../" * 50 + "x", "bids::..", "bids:x:y", "loop"])
def test_a_source_that_is_nowhere_is_none(tmp_path: Path, source: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "map.json").write_text(json.dumps({"Sources": [source]}))
    assert read_record(tmp_path / "map.nii.gz").scan is None


def test_a_name_that_is_not_utf8_is_written_and_read_again(tmp_path: Path) -> None:
    write_sidecar(tmp_path / "map.nii.gz", {}, [tmp_path / "c\udcff.nii.gz"])
    assert read_sidecar(tmp_path / "map.nii.gz")["Sources"] == ["c\udcff.nii.gz"]


def test_a_smoothed_map_lies_beside_each_map(tmp_path: Path) -> None:
    plain = MapFiles({"latent-distance": tmp_path / "novelty.nii.gz"}, tmp_path / "mask.nii.gz")
    bids = MapFiles(
        {"latent-distance": tmp_path / "sub-01_model-vae_param-latentDistance_dwimap.nii.gz"},
        tmp_path / "mask.nii.gz",
    )
    smoothed = [files.with_smoothed().smoothed["latent-distance"].name for files in (plain, bids)]
    assert smoothed == [
        "novelty_smoothed.nii.gz",
        "sub-01_model-vae_param-latentDistance_desc-smoothed_dwimap.nii.gz",
    ]
    paths = plain.with_smoothed().paths()
    assert tmp_path / "novelty_smoothed.json" in paths and tmp_path / "novelty.json" in paths
