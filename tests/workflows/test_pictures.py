"""The pictures that `map` and `eval` write, and the same from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.image import imread

from qspace_nd.errors import GridError, InputError, LabelError, OutputError, ScanError
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.plotting import plot_mosaic
from qspace_nd.workflows.evaluate import evaluate_maps
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import CONTROLS, LABELS, MODEL, NOVELTY, PATIENT, Run, tree_of

pytestmark = pytest.mark.usefixtures("inside")

PICTURE = Path("novelty.png")


def calibrated(folder: Path) -> Path:
    """A model that knows what healthy people's maps look like."""
    fourth = Path("healthy/control-04.nii.gz")
    for path in Path("healthy").glob("control-03*"):
        shutil.copy(path, str(path).replace("-03", "-04"))
    image = nib.load(fourth)
    values = np.asarray(image.dataobj).astype(np.float32)
    nib.save(nib.Nifti1Image(values * 1.01 + 1, image.affine), fourth)
    fit_scans([*CONTROLS, fourth], NoveltyModel(epochs=1), folder, template=False)
    return folder


def test_a_picture_that_was_lost_is_drawn_again() -> None:
    whole = PICTURE.read_bytes()
    PICTURE.unlink()
    map_scans([PATIENT], MODEL, NOVELTY)
    assert PICTURE.read_bytes() == whole


def test_a_pdf_can_be_added_and_goes_when_the_map_becomes_another() -> None:
    before = tree_of(Path())
    map_scans([PATIENT], MODEL, NOVELTY, MapSettings(pdf=True))
    pdf = Path("novelty.pdf")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert tree_of(Path()) == before | {"novelty.pdf": tree_of(Path())["novelty.pdf"]}
    map_scans([PATIENT], MODEL, NOVELTY, force=True)  # the same map: it still shows it
    assert pdf.exists()
    map_scans([PATIENT], MODEL, NOVELTY, MapSettings(neighbours=3), force=True)
    assert not pdf.exists()
    pdf.write_bytes(b"%PDF mine")
    map_scans([PATIENT], MODEL, NOVELTY, MapSettings(neighbours=4), force=True)
    assert pdf.read_bytes() == b"%PDF mine"


def test_a_picture_of_something_else_is_not_overwritten() -> None:
    PICTURE.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"novelty.png exists already, and was made not from"):
        map_scans([PATIENT], MODEL, NOVELTY)
    assert PICTURE.read_bytes() == b"mine"
    map_scans([PATIENT], MODEL, NOVELTY, force=True)
    assert PICTURE.read_bytes() != b"mine"


def test_what_is_drawn_from_the_files_is_what_map_drew(tmp_path: Path) -> None:
    model = calibrated(tmp_path / "calibrated")
    settings = MapSettings(("input-distance", "latent-distance"), cluster_share=0.002)
    (files,) = map_scans([PATIENT], model, "other.nii.gz", settings)
    assert [*files.neglogp] == ["latent-distance"]
    for score, path in files.maps.items():
        figure = plot_mosaic(path)
        (bar,) = (axes for panel in figure.axes for axes in panel.child_axes)
        known = score in files.neglogp
        assert bar.get_xlabel().startswith("share of healthy" if known else "novelty, above")
        assert known == (bar.get_xlim()[0] == pytest.approx(-np.log10(0.002)))
        figure.savefig(tmp_path / "again.png", dpi=200)
        again, drawn = imread(tmp_path / "again.png"), imread(files.pictures[score][0])
        np.testing.assert_array_equal(again, drawn)


def test_arrays_give_the_same_picture_as_files(tmp_path: Path) -> None:
    image, mask, labels = (nib.load(path) for path in (NOVELTY, "novelty_mask.nii.gz", LABELS))
    b0 = nib.load(PATIENT).dataobj[..., int(np.loadtxt("patient.bval").argmin())]
    arrays = plot_mosaic(
        np.asarray(image.dataobj),
        image.affine,
        mask=np.asarray(mask.dataobj),
        anatomy=b0,
        labels=np.asarray(labels.dataobj),
        title="patient, latent-distance",
    )
    for name, figure in (("arrays", arrays), ("files", plot_mosaic(NOVELTY, labels=LABELS))):
        figure.savefig(tmp_path / f"{name}.png", dpi=100)
    np.testing.assert_array_equal(*(imread(tmp_path / f"{n}.png") for n in ("arrays", "files")))


def test_eval_draws_the_same_with_labels_and_without_the_scan(tmp_path: Path) -> None:
    evaluate_maps([NOVELTY], [LABELS], "eval")
    plot_mosaic(NOVELTY, labels=LABELS).savefig(tmp_path / "again.png", dpi=200)
    drawn = imread("eval/slices_patient.png")
    np.testing.assert_array_equal(drawn, imread(tmp_path / "again.png"))
    PATIENT.unlink()
    evaluate_maps([NOVELTY], [LABELS], "without")
    assert (imread("without/slices_patient.png") != drawn).any()


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        ({"affine": np.eye(4)}, InputError, "which has its own; leave it"),
        ({"labels": "none.nii.gz"}, ScanError, "none.nii.gz"),
        ({"labels": "novelty_residual.nii.gz"}, LabelError, "neither 0 and 1, nor"),
        ({"mask": "small.nii.gz"}, GridError, "lies on another grid"),
        ({"share": 0}, InputError, "share is 0; a share between 0 and 1"),
    ],
)
def test_what_cannot_be_drawn_is_told(
    more: dict[str, object], error: type[Exception], says: str
) -> None:
    nib.save(nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4)), "small.nii.gz")
    values = nib.load(NOVELTY)
    noise = np.random.default_rng(0).normal(5, 30, values.shape)
    nib.save(nib.Nifti1Image(noise, values.affine), "novelty_residual.nii.gz")
    with pytest.raises(error, match=says):
        plot_mosaic(NOVELTY, **more)


def test_a_map_of_no_known_orientation_names_no_side() -> None:
    for path in (NOVELTY, Path("novelty_mask.nii.gz")):
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        image.set_qform(None, 0)
        image.set_sform(image.affine, 0)
        nib.save(nib.Nifti1Image(values, None, image.header), path)
    texts = {text.get_text() for axes in plot_mosaic(NOVELTY).axes for text in axes.texts}
    assert "?" in texts and not {"R", "L"} & texts


def test_an_array_needs_its_affine() -> None:
    with pytest.raises(InputError, match=r"give its affine \(4, 4\) with it"):
        plot_mosaic(np.ones((3, 3, 3)))


def test_the_command_writes_a_pdf_where_it_is_asked_to(call: Run) -> None:
    assert call("map patient.nii.gz --pdf -q", Path()).status == 0
    assert Path("novelty.pdf").read_bytes().startswith(b"%PDF")
