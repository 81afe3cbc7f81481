"""Real scans of the folder that QSPACE_ND_DATA names: a lesion is found, storage does not matter.

`uih/` holds two people scanned with one protocol, `galan/` three runs of one person of which one
has tilted slices, `ms/` four contrasts of a patient without b-values.
"""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.fsl import read_gradients, write_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import Run

SCORES = ["latent-distance", "input-distance"]
MODEL = Path("qspace-nd-model")


# --- Files


def save(path: Path, data: np.ndarray, like: nib.Nifti1Image, **scaling: float) -> None:
    """Write `data` on the grid of an image, with its affine and codes."""
    image = nib.Nifti1Image(data, None, like.header)
    image.set_data_dtype(data.dtype)
    image.header.set_slope_inter(scaling.get("slope", 1.0), scaling.get("inter", 0.0))
    nib.save(image, path)


def give_neighbours(path: Path, of: Path) -> None:
    """Put copies of another scan's gradients and mask beside a scan."""
    name = path.name.split(".")[0]
    for ending in (".bval", ".bvec", "_mask.nii.gz"):
        source = of.with_name(of.name.replace(".nii.gz", ending))
        shutil.copy(source, path.with_name(name + ending))


def values_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.fixture(scope="module")
def people(real_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of one person, and the other's scan with the maps made by it."""
    folder = tmp_path_factory.mktemp("people")
    (person,) = (real_scans / "uih/sub-A/dwi").glob("*.nii.gz")
    (other,) = (real_scans / "uih/sub-B/dwi").glob("*PArot_dwi.nii.gz")
    for ending in ("nii.gz", "bval", "bvec"):
        source = person.with_name(person.name.replace("nii.gz", ending))
        shutil.copy(source, folder / f"person.{ending}")
    with chdir(folder):
        fit_scans([other], NoveltyModel(epochs=100), MODEL)
        map_scans(
            [Path("person.nii.gz")], MODEL, Path("person_novelty.nii.gz"), MapSettings(SCORES)
        )
    shutil.copy(folder / "person_novelty_mask.nii.gz", folder / "person_mask.nii.gz")
    return folder


# --- A lesion in the real signal

ECHO_TIME, HEALTHY_T2, LESION_T2 = 71.0, 70.0, 200.0  # ms: of the scan, white matter, oedema
DIFFUSIVITY, ANISOTROPY = 1.4, 0.5  # of the lesion, in units of the voxel's own


@dataclass(frozen=True)
class Tensors:
    """Diffusion tensors (n, 6) of voxels: xx, yy, zz, xy, xz, yz, in mm²/s."""

    elements: np.ndarray

    @classmethod
    def fitted(cls, signal: np.ndarray, table: GradientTable) -> Tensors:
        """Log-linear least squares on the signal (n, C)."""
        design = np.column_stack([np.ones(len(table.bvals)), -table.bvals[:, None] * terms(table)])
        log = np.log(np.maximum(signal, 1.0))
        return cls(np.linalg.lstsq(design, log.T, rcond=None)[0].T[:, 1:])

    @property
    def mean_diffusivity(self) -> np.ndarray:
        return np.asarray(self.elements[:, :3].mean(axis=1))

    @property
    def anisotropy(self) -> np.ndarray:
        """Norm of the anisotropic part over that of the whole, (n,)."""
        weights = np.array([1, 1, 1, 2, 2, 2])
        part = self.elements - self.isotropic()
        norms = [(weights * part_of**2).sum(axis=1) for part_of in (part, self.elements)]
        return np.sqrt(norms[0] / np.maximum(norms[1], 1e-20))

    def isotropic(self) -> np.ndarray:
        return self.mean_diffusivity[:, None] * np.array([1, 1, 1, 0, 0, 0])

    def damaged(self) -> Tensors:
        isotropic = self.isotropic()
        return Tensors(DIFFUSIVITY * isotropic + ANISOTROPY * (self.elements - isotropic))


def terms(table: GradientTable) -> np.ndarray:
    """(C, 6): what multiplies the elements of a tensor D in gᵀDg."""
    x, y, z = table.directions.T
    return np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)


def with_lesions(signal: np.ndarray, tensors: Tensors, table: GradientTable) -> np.ndarray:
    """Change measured signal (n, C), noise and all, by what the lesion changes in its model.

    A longer T2 raises all volumes by exp(TE/T2 - TE/T2'), and the tensor D' attenuates them by
    exp(-b gᵀD'g) instead of exp(-b gᵀDg).
    """
    longer_t2 = np.exp(ECHO_TIME / HEALTHY_T2 - ECHO_TIME / LESION_T2)
    less = (tensors.damaged().elements - tensors.elements) @ terms(table).T
    return np.asarray(signal * longer_t2 * np.exp(-table.bvals * less))


def lesion_mask(brain: np.ndarray, white: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Six balls of 8 mm radius where `white` (X, Y, Z) is most, deep in the brain and apart."""
    depth = ndimage.distance_transform_edt(np.pad(brain, 1), sampling=sizes)[1:-1, 1:-1, 1:-1]
    left = np.where(depth > 14, ndimage.gaussian_filter(white, 1.0), 0.0)
    places = np.moveaxis(np.indices(brain.shape), 0, -1) * sizes
    lesion = np.zeros(brain.shape, bool)
    for _ in range(6):
        centre = np.unravel_index(left.argmax(), left.shape)
        distance = np.linalg.norm(places - places[centre], axis=-1)
        lesion |= distance <= 8
        left[distance < 25] = 0
    return lesion & brain


@pytest.fixture(scope="module")
def patient(people: Path) -> Path:
    """The other person's scan with lesions in its signal, `patient.nii.gz`, and their labels."""
    image = nib.load(people / "person.nii.gz")
    signal = np.asarray(image.dataobj).astype(float)
    brain = values_of(people / "person_mask.nii.gz") > 0
    table = read_gradients(
        people / "person.bval", people / "person.bvec", image.affine, signal.shape[3]
    )
    tensors = Tensors.fitted(signal[brain], table)
    diffusivity = tensors.mean_diffusivity
    white = np.zeros(brain.shape)
    white[brain] = tensors.anisotropy * ((diffusivity > 6e-4) & (diffusivity < 1e-3))
    lesion = lesion_mask(brain, white, np.array(image.header.get_zooms()[:3]))
    signal[lesion] = with_lesions(signal[brain], tensors, table)[lesion[brain]]
    whole = np.rint(signal).clip(0, 65535).astype(np.uint16)
    save(people / "patient.nii.gz", whole, image)
    give_neighbours(people / "patient.nii.gz", people / "person.nii.gz")
    nib.save(nib.Nifti1Image(lesion.astype(np.uint8), image.affine), people / "lesions.nii.gz")
    return people


def test_a_lesion_in_the_real_signal_of_another_person_is_found(
    patient: Path, call: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    scores = " ".join(f"--score {score}" for score in SCORES)
    maps = "person_novelty_*-distance.nii.gz patient_novelty_*-distance.nii.gz"
    for line in (
        f"map patient.nii.gz -o patient_novelty.nii.gz {scores}",
        f"eval {maps} --labels lesions.nii.gz --labels lesions.nii.gz",
    ):
        outcome = call(line, patient)
        assert outcome.status == 0, outcome.stderr
    with (patient / "qspace-nd-eval/eval.tsv").open() as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    auc = {(row["patient"], row["score"]): float(row["auc"]) for row in rows}
    with capfd.disabled():
        print(f"\nAUC of lesions in a real scan, and of the same voxels without them: {auc}")
    for score in SCORES:
        # Where the voxels lie, in white matter, is itself a little novel: what counts as chance is
        # the AUC of the same voxels in the scan as it was. The standard error of an AUC over 234
        # voxels is at most 1 / sqrt(12 * 234) = 0.019, so that 0.1 is five of them.
        assert auc["patient", score] > 0.75
        assert auc["patient", score] > auc["person", score] + 0.1


def test_the_map_of_a_real_scan_lies_on_its_grid(people: Path) -> None:
    scan = nib.load(people / "person.nii.gz")
    for score in SCORES:
        novelty = nib.load(people / f"person_novelty_{score}.nii.gz")
        assert novelty.shape == scan.shape[:3]
        assert novelty.get_data_dtype() == np.float32
        np.testing.assert_allclose(novelty.affine, scan.affine, atol=1e-5)
        for form in ("qform", "sform"):
            affine, code = getattr(novelty, f"get_{form}")(coded=True)
            expected, expected_code = getattr(scan, f"get_{form}")(coded=True)
            assert code == expected_code > 0
            np.testing.assert_allclose(affine, expected, atol=1e-4)
        mask = values_of(people / "person_mask.nii.gz") > 0
        values = novelty.get_fdata()
        assert np.isfinite(values).all()
        assert not values[~mask].any()
        assert (values[mask] > 0).all()


# --- How a scan is stored does not matter


def map_of(name: str, folder: Path, call: Run) -> np.ndarray:
    """Map a scan beside which the person's gradients and mask are put."""
    scan = folder / name
    if not scan.with_name(name.split(".")[0] + ".bval").exists():
        give_neighbours(scan, folder / "person.nii.gz")
    output = f"map_of_{name.split('.')[0]}.nii.gz"
    outcome = call(f"map {name} -o {output} --force -q", folder)
    assert (outcome.status, outcome.stderr) == (0, "")
    return values_of(folder / output)


def float32_copy(folder: Path, name: str, of: str) -> None:
    """Store the values that an image stands for, as float32."""
    image = nib.load(folder / of)
    save(folder / name, image.get_fdata().astype(np.float32), image)


@pytest.mark.parametrize(
    ("name", "scaling"),
    [
        pytest.param("whole.nii.gz", {}, id="16 bits, oblique"),
        pytest.param("scaled.nii.gz", {"slope": 0.37}, id="16 bits with a slope"),
        pytest.param("shifted.nii.gz", {"slope": 0.37, "inter": 5.0}, id="with an intercept"),
        pytest.param("plain.nii", {}, id="16 bits without gzip"),
    ],
)
def test_a_real_scan_gives_the_map_of_its_float32_copy(
    name: str, scaling: dict[str, float], people: Path, call: Run
) -> None:
    image = nib.load(people / "person.nii.gz")
    save(people / name, np.asarray(image.dataobj).astype(np.int16), image, **scaling)
    stem = name.split(".")[0]
    for copy in (f"{stem}_single.nii.gz", f"{stem}_plain.nii"):
        float32_copy(people, copy, of=name)
        np.testing.assert_array_equal(map_of(name, people, call), map_of(copy, people, call))


@pytest.mark.parametrize("axes", ["LAS", "LPS", "RAS", "SAL"])
def test_a_head_gives_one_map_along_whatever_axes_it_is_stored(
    axes: str, people: Path, call: Run
) -> None:
    image = nib.load(people / "person.nii.gz")
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(image.affine), nib.orientations.axcodes2ornt(axes)
    )
    stored = image.as_reoriented(turn)
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    folder = people / axes
    folder.mkdir()
    (folder / MODEL).symlink_to(people / MODEL)
    nib.save(stored, folder / "person.nii.gz")
    mask = nib.load(people / "person_mask.nii.gz").as_reoriented(turn)
    nib.save(mask, folder / "person_mask.nii.gz")
    shutil.copy(people / "person.bval", folder)
    vectors = np.loadtxt(people / "person.bvec")  # (3, C), along the axes of the image
    sign = flip_of(image.affine), flip_of(stored.affine)
    vectors[0] *= sign[0]
    turned = np.empty_like(vectors)
    for axis, (target, direction) in enumerate(turn):
        turned[int(target)] = vectors[axis] * direction
    turned[0] *= sign[1]
    np.savetxt(folder / "person.bvec", turned, fmt="%.6f")
    novelty = map_of("person.nii.gz", folder, call)
    back = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt(axes), nib.io_orientation(image.affine)
    )
    novelty = nib.orientations.apply_orientation(novelty, back)
    expected = values_of(people / "person_novelty_latent-distance.nii.gz")
    np.testing.assert_allclose(novelty, expected, rtol=1e-3, atol=1e-6 * expected.max())


def flip_of(affine: np.ndarray) -> int:
    """FSL's sign of x: turned where the affine's determinant is positive."""
    return -1 if np.linalg.det(affine[:3, :3]) > 0 else 1


# --- A head that is turned, and the b-vectors with it

TURN = Rotation.from_rotvec(np.radians(15) * np.ones(3) / np.sqrt(3)).as_matrix()


def turned_about(point: np.ndarray) -> np.ndarray:
    """(4, 4): the head's 15 degrees about a point of the world."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = TURN, point - TURN @ point
    return affine


def turn_vectors(people: Path, name: str, affine: np.ndarray) -> None:
    """Write the person's gradients, turned with the head, for an image of `affine`."""
    scan = nib.load(people / "person.nii.gz")
    bval, bvec = people / "person.bval", people / "person.bvec"
    table = read_gradients(bval, bvec, scan.affine, scan.shape[3])
    turned = GradientTable(table.bvals, table.directions @ TURN.T)
    write_gradients(people / f"{name}.bval", people / f"{name}.bvec", turned, affine)


def maps_of(
    people: Path,
    name: str,
    model: Path = MODEL,
    scores: Sequence[str] = SCORES,
    **options: Any,
) -> dict[tuple[str, str], np.ndarray]:
    """The person's plain and smoothed maps, mean distances to 10 neighbours: (kind, score)."""
    with chdir(people):
        (files,) = map_scans(
            [Path(f"{name}.nii.gz")],
            model,
            Path(f"{name}_turned.nii.gz"),
            MapSettings(scores, neighbours=10, smooth=6.0),
            options=ScanOptions(**options),
            force=True,
        )
    kinds = {"plain": files.maps, "smoothed": files.smoothed}
    return {
        (kind, score): values_of(people / path)
        for kind, maps in kinds.items()
        for score, path in maps.items()
    }


def test_a_head_and_b_vectors_that_are_turned_in_the_header_give_the_map_again(
    people: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, mask = (nib.load(people / f"person{ending}.nii.gz") for ending in ("", "_mask"))
    affine = turned_about(np.zeros(3)) @ image.affine
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), people / "header.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), affine), people / "header_mask.nii.gz")
    turn_vectors(people, "header", affine)
    inside = np.asarray(mask.dataobj) > 0
    still, turned = maps_of(people, "person"), maps_of(people, "header")
    found = {key: np.corrcoef(still[key][inside], turned[key][inside])[0, 1] for key in still}
    with capfd.disabled():
        print(f"\nCorrelation of maps, the head turned in the header: {found}")
    assert min(found.values()) > 0.95


def test_a_turned_and_interpolated_head_gives_the_map_again_where_it_is_smoothed(
    real_scans: Path, people: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    image, mask = (nib.load(people / f"person{ending}.nii.gz") for ending in ("", "_mask"))
    centre = image.affine[:3] @ np.append(ndimage.center_of_mass(np.asarray(mask.dataobj)), 1)
    turn, pad = turned_about(centre), np.array([6, 6, 8])
    affine = image.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ pad
    shape = tuple(np.array(mask.shape) + 2 * pad)

    def moved(volume: np.ndarray, way: np.ndarray, onto: tuple[int, ...], order: int) -> np.ndarray:
        return ndimage.affine_transform(
            volume.astype(np.float32), way, output_shape=onto, order=order, mode="nearest"
        )

    there = np.linalg.inv(image.affine) @ np.linalg.inv(turn) @ affine
    signal = np.asarray(image.dataobj)
    turned = [moved(signal[..., i], there, shape, 3) for i in range(signal.shape[3])]
    brain = (moved(np.asarray(mask.dataobj), there, shape, 1) > 0.5) & (turned[0] > 0)
    nib.save(nib.Nifti1Image(np.stack(turned, -1), affine), people / "grid.nii.gz")
    nib.save(nib.Nifti1Image(brain.astype(np.uint8), affine), people / "grid_mask.nii.gz")
    turn_vectors(people, "grid", affine)
    back = np.linalg.inv(there)
    inside = (np.asarray(mask.dataobj) > 0) & (moved(brain, back, mask.shape, 1) > 0.99)
    as_scanned = Path("as-scanned")
    (other,) = (real_scans / "uih/sub-B/dwi").glob("*PArot_dwi.nii.gz")
    with chdir(people):
        strict = ScanOptions(gradients="strict")
        fit_scans([other], NoveltyModel(epochs=1), as_scanned, options=strict)
    found = {}
    for what, model, scores, angle in (
        ("resampled", MODEL, SCORES, 5.0),
        # The score that asks no network says what the signal itself has lost.
        ("directions ignored", as_scanned, ["input-distance"], 90.0),
    ):
        still = maps_of(people, "person", model, scores)
        for key, novelty in maps_of(people, "grid", model, scores, max_angle=angle).items():
            again = moved(novelty, back, mask.shape, 1)[inside]
            found[(*key, what)] = np.corrcoef(still[key][inside], again)[0, 1]
    with capfd.disabled():
        print(f"\nCorrelation of maps, the head turned on its grid: {found}")
    for score in SCORES:
        assert found["smoothed", score, "resampled"] > 0.9
    # What is lost without smoothing is lost to interpolation: also where the directions are
    # ignored, so that the volumes, which turned with the head, stay what they were.
    ignored, resampled = (
        found["plain", "input-distance", what] for what in ("directions ignored", "resampled")
    )
    assert ignored - resampled < 0.03


# --- Scans that do or do not belong together


@pytest.fixture(scope="module")
def runs(real_scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A model of `galan/`'s axial run; called with a run's name, its scan."""
    folder = tmp_path_factory.mktemp("runs")
    dwi = real_scans / "galan/sub-01/dwi"
    fit_scans([dwi / "sub-01_acq-ortho_dwi.nii.gz"], NoveltyModel(epochs=1), folder / MODEL)
    (folder / "dwi").symlink_to(dwi)
    return lambda run: folder / f"dwi/sub-01_acq-{run}_dwi.nii.gz"


def test_a_run_with_tilted_slices_is_refused_with_its_angles(
    runs: Callable[[str], Path], tmp_path: Path, call: Run
) -> None:
    scan = runs("cor20")
    model = scan.parents[1] / MODEL
    outcome = call(
        f"map {scan} --model {model} -o {tmp_path}/map.nii.gz --gradients strict -q", tmp_path
    )
    assert outcome.status == 2
    assert not list(tmp_path.iterdir())
    assert str(scan) in outcome.stderr
    assert re.search(
        r"other gradient directions than the model in 12 of 12 weighted volumes: volumes 8 "
        r"\(20\.0°\), 2 \(20\.0°\).* and 7 more .*at most 5° in the world frame",
        outcome.stderr,
    )


def test_12_directions_at_b_1500_are_too_few_to_be_resampled(
    runs: Callable[[str], Path], tmp_path: Path, call: Run
) -> None:
    scan = runs("cor20")
    model = scan.parents[1] / MODEL
    outcome = call(f"map {scan} --model {model} -o {tmp_path}/map.nii.gz -q", tmp_path)
    assert outcome.status == 2
    assert not list(tmp_path.iterdir())
    assert re.search(
        rf"{scan} has too few directions at b=1500, .* with its 12 .* errs by 5\.\d % of b=0",
        outcome.stderr,
    )


def test_a_run_with_straight_slices_is_mapped(
    runs: Callable[[str], Path], tmp_path: Path, call: Run
) -> None:
    scan = runs("orthoHT")
    model = scan.parents[1] / MODEL
    outcome = call(f"map {scan} --model {model} -o {tmp_path}/map.nii.gz", tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert (tmp_path / "map.nii.gz").is_file()


def test_contrasts_without_b_values_are_fitted_with_a_loud_warning(
    real_scans: Path, tmp_path: Path, call: Run
) -> None:
    scan = real_scans / "ms/patient07_multicontrast.nii.gz"
    outcome = call(f"fit {scan} --epochs 1", tmp_path)
    assert outcome.status == 0, outcome.stderr
    assert re.search(rf"^Warning: {scan} HAS NO B-VALUES", outcome.stderr, re.M)
    acquisition = NoveltyModel.load(tmp_path / MODEL).acquisition_
    assert acquisition is not None
    assert acquisition.gradients is None
    assert acquisition.channel_means.shape == (4,)
