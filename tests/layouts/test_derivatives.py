from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from qspace_nd.errors import OutputError
from qspace_nd.layouts.derivatives import describe, locate, require_own, uri_of
from qspace_nd.layouts.maps import read_record, write_sidecar


def dataset(folder: Path, kind: str = "raw", by: str = "other") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"Name": "x", "DatasetType": kind, "GeneratedBy": [{"Name": by}]}
    (folder / "dataset_description.json").write_text(json.dumps(facts))
    return folder


def description(folder: Path) -> dict[str, object]:
    return dict(json.loads((folder / "dataset_description.json").read_text()))


SCAN, IMAGE = "sub-01/dwi/sub-01_dwi.nii.gz", "sub-01/dwi/sub-01_param-x_dwimap.nii.gz"


def test_a_dataset_is_described_and_linked_to_its_sources(tmp_path: Path) -> None:
    raw, out = dataset(tmp_path / "my study"), tmp_path / "out"
    describe(out, [raw])
    describe(out, [raw, raw])
    facts = description(out)
    assert facts["DatasetType"] == "derivative"
    assert facts["GeneratedBy"][0]["Name"] == "qspace-nd"  # type: ignore[index]
    assert facts["DatasetLinks"] == {"mystudy": "../my study"}
    assert facts["SourceDatasets"] == [{"URL": "../my study"}]
    ignored = (out / ".bidsignore").read_text().splitlines()
    assert ignored == ["*_dwimap.*", "*_desc-clusters_dseg.*", "novelty.tsv", "qspace-nd-model"]


def test_several_sources_are_told_apart(tmp_path: Path) -> None:
    out = tmp_path / "study/derivatives/qspace-nd"
    for root in (dataset(tmp_path / "study"), dataset(tmp_path / "a/study")):
        describe(out, [root])
    assert description(out)["DatasetLinks"] == {"study": "../..", "study2": "../../../a/study"}


@pytest.mark.parametrize(
    "text", ["mine", "[" * 100_000, '{"GeneratedBy": [{"Name": "QSIPrep"}]}', "{}"]
)
def test_a_description_by_another_program_stays(text: str, tmp_path: Path) -> None:
    path = tmp_path / "dataset_description.json"
    path.write_text(text)
    describe(tmp_path, [dataset(tmp_path / "raw")])
    assert path.read_text() == text


def test_a_bidsignore_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / ".bidsignore").write_text("mine")
    describe(tmp_path)
    assert (tmp_path / ".bidsignore").read_text() == "mine"


def test_sources_are_named_by_bids_uris_and_found_again_after_a_move(tmp_path: Path) -> None:
    raw, out = dataset(tmp_path / "study/raw"), tmp_path / "study/out"
    (raw / SCAN).parent.mkdir(parents=True)
    (raw / SCAN).touch()
    describe(out, [raw])
    write_sidecar(out / IMAGE, {}, [raw / SCAN])
    facts = json.loads((out / IMAGE.replace(".nii.gz", ".json")).read_text())
    assert facts["Sources"] == [f"bids:raw:{SCAN}"]
    moved = (tmp_path / "study").rename(tmp_path / "elsewhere")
    record = read_record(moved / "out" / IMAGE)
    assert record.scan is not None
    assert record.scan.samefile(moved / "raw" / SCAN)


def test_a_source_in_the_dataset_itself_has_no_name_in_its_uri(tmp_path: Path) -> None:
    describe(tmp_path)
    uri = uri_of(tmp_path / "sub-01/dwi/sub-01_mask.nii.gz", tmp_path / IMAGE)
    assert uri == "bids::sub-01/dwi/sub-01_mask.nii.gz"
    assert locate(uri, tmp_path / IMAGE) == tmp_path / "sub-01/dwi/sub-01_mask.nii.gz"


def test_sources_outside_of_datasets_are_named_by_their_paths(tmp_path: Path) -> None:
    uri = uri_of(tmp_path / "scan.nii.gz", tmp_path / "out/map.nii.gz")
    assert uri == "../scan.nii.gz"
    located = locate(uri, tmp_path / "out/map.nii.gz")
    assert located is not None and located.resolve() == (tmp_path / "scan.nii.gz").resolve()


def test_a_uri_of_a_dataset_that_is_not_linked_leads_nowhere(tmp_path: Path) -> None:
    assert locate("bids:raw:x.nii.gz", tmp_path / "map.nii.gz") is None
    describe(tmp_path)
    assert locate("bids:raw:x.nii.gz", tmp_path / "map.nii.gz") is None


@pytest.mark.parametrize("links", [[1], "a", 3, None, {"raw": 1}, {"raw": ["a"]}, {"raw": "a\0"}])
def test_links_of_another_kind_lead_nowhere(links: object, tmp_path: Path) -> None:
    describe(tmp_path)
    facts = description(tmp_path) | {"DatasetLinks": links}
    (tmp_path / "dataset_description.json").write_text(json.dumps(facts))
    assert locate("bids:raw:x.nii.gz", tmp_path / "map.nii.gz") is None
    describe(tmp_path, [dataset(tmp_path.parent / "study")])
    assert description(tmp_path)["DatasetLinks"] == {"study": "../study"}


def test_maps_are_not_put_among_scans(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"raw is a raw BIDS dataset, where maps do not belong"):
        require_own(dataset(tmp_path / "raw"))
    require_own(dataset(tmp_path / "prep", "derivative"))
    require_own(tmp_path / "new")


def _describe(out: Path, source: Path) -> None:
    describe(out, [source])


def test_processes_that_describe_a_dataset_at_once_lose_no_link(tmp_path: Path) -> None:
    out = tmp_path / "out"
    roots = [dataset(tmp_path / f"raw{number}") for number in range(12)]
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        list(pool.map(_describe, [out] * 12, roots))
    links = description(out)["DatasetLinks"]
    assert links == {f"raw{number}": f"../raw{number}" for number in range(12)}
    assert {path.name for path in out.iterdir()} == {".bidsignore", "dataset_description.json"}
