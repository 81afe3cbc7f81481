"""b-tables that are another scan's, have no shells, or flipped vectors: told, never mapped."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.arrays import Float64
from qspace_nd.diffusion.flips import FLIPS
from tests.conftest import Run

N, SHAPE = 20, (24, 24, 18)  # 1,000 voxels of fibres and more, by which flips can be told
AFFINE = np.diag([-6.0, 6.0, 6.0, 1.0])
SHELL = np.repeat([0.0, 1000.0], [3, N])


def spiral(n: int, b0: int) -> Float64:
    """Zero vectors for b=0, then directions that are spread on the half sphere."""
    height = 1 - (np.arange(n) + 0.5) / n
    turn = np.pi * (1 + 5**0.5) * np.arange(n)
    around = np.sqrt(1 - height**2)
    directions = np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1)
    return np.concatenate([np.zeros((b0, 3)), directions])


VECTORS = spiral(N, 3)


def write_table(path: Path, bvals: Float64, vectors: Float64 = VECTORS) -> None:
    stem = path.name.removesuffix(".nii.gz")
    np.savetxt(path.with_name(f"{stem}.bval"), bvals[None], fmt="%g")
    np.savetxt(path.with_name(f"{stem}.bvec"), vectors.T, fmt="%.6f")


def save_scan(
    path: Path,
    bvals: Float64 = SHELL,
    vectors: Float64 = VECTORS,
    seed: int = 0,
    noise: float = 10,
) -> Path:
    """Write a ball of thin straight strands of fibres, its mask and its gradients."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    mask = np.sqrt(x * x + y * y + z * z) < 0.95
    fibres = np.array([4.0, 2.0, 1.0]) / 21**0.5
    across = [[-1, 2, 0], [-2, -1, 10]] / np.sqrt([[5], [105]])
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    strands = (np.cos(2 * np.pi / 5 * places @ across.T).sum(axis=-1) > 0.5) & mask
    along = np.exp(-bvals * (0.3e-3 + 1.3e-3 * (vectors @ fibres) ** 2))
    signal = 900 * np.where(strands[..., None], along, np.exp(-bvals * 0.8e-3)) * mask[..., None]
    parts = np.random.default_rng(seed).normal(0, noise, (2, *signal.shape))
    for file, values in (
        (path, np.hypot(signal + parts[0], parts[1]).round().astype(np.int16)),
        (path.with_name(path.name.replace(".nii", "_mask.nii")), mask.astype(np.uint8)),
    ):
        image = nib.Nifti1Image(values, AFFINE)
        image.header.set_xyzt_units("mm")
        nib.save(image, file)
    write_table(path, bvals, vectors)
    return path


# --- Shells


def test_b_values_all_over_are_no_shell_and_other_pairs_are_refused(
    tmp_path: Path, call: Run
) -> None:
    rng = np.random.default_rng(0)
    vectors, spread = spiral(60, 1), rng.permutation(np.linspace(300, 2900, 60).round())
    for seed in (1, 2):
        save_scan(tmp_path / f"c{seed}.nii.gz", np.append(0, spread), vectors, seed)
    save_scan(tmp_path / "patient.nii.gz", np.append(0, rng.permutation(spread)), vectors, 9)
    checked = call("check c1.nii.gz", tmp_path)
    assert "60 from b=300 to b=2900 that are no shell" in checked.stdout
    fitted = call("fit c1.nii.gz c2.nii.gz --epochs 1", tmp_path)
    assert fitted.status == 0, fitted.stderr
    assert "taken as they were scanned: they have no shells" in fitted.stderr
    mapped = call("map patient.nii.gz -o map.nii.gz", tmp_path)
    assert mapped.status == 2
    assert "patient.nii.gz" in mapped.stderr
    assert not list(tmp_path.glob("map*"))


def test_a_shell_whose_b_values_lie_near_each_other_stays_one(tmp_path: Path, call: Run) -> None:
    jitter = np.linspace(-95, 95, N).round()
    save_scan(tmp_path / "c.nii.gz", SHELL + np.append(np.zeros(3), jitter))
    assert "3 at b=0, 20 at b=1000" in call("check c.nii.gz", tmp_path).stdout


# --- b=0


def test_zero_vectors_just_above_50_look_like_b0(tmp_path: Path, call: Run) -> None:
    scan = save_scan(tmp_path / "c.nii.gz")
    write_table(scan, np.where(SHELL == 0, 60, SHELL))
    told = call("check c.nii.gz", tmp_path)
    assert told.status == 2
    assert "look like b=0" in told.stdout
    assert "--b0-threshold 60" in told.stdout
    assert "trace" not in told.stdout
    taken = call("check c.nii.gz --b0-threshold 60", tmp_path)
    assert taken.status == 0, taken.stdout
    assert "3 at b=0, 20 at b=1000" in taken.stdout


def test_one_direction_for_all_volumes_is_told(tmp_path: Path, call: Run) -> None:
    scan = save_scan(tmp_path / "c.nii.gz")
    write_table(scan, SHELL, np.where(np.linalg.norm(VECTORS, axis=1)[:, None] > 0, VECTORS[3], 0))
    told = call("check c.nii.gz", tmp_path)
    assert "c.bvec has one direction alone for all 20 weighted volumes" in told.stdout


def test_a_file_that_is_too_long_for_a_table_is_not_read(tmp_path: Path, call: Run) -> None:
    save_scan(tmp_path / "c.nii.gz")
    (tmp_path / "c.bvec").write_text("0 " * 10**7)
    told = call("check c.nii.gz", tmp_path)
    assert told.status == 2
    assert "c.bvec holds 20,000,000 bytes, which is no table of gradients" in told.stdout


def test_trace_images_are_still_called_so(tmp_path: Path, call: Run) -> None:
    vectors = VECTORS.copy()
    vectors[-1] = 0
    write_table(save_scan(tmp_path / "c.nii.gz"), SHELL, vectors)
    assert "which are trace (mean diffusivity) images" in call("check c.nii.gz", tmp_path).stdout


# --- Volumes against the table


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(np.roll(np.arange(N + 3), 1), id="shifted by one volume"),
        pytest.param(np.roll(np.arange(N + 3), -1), id="shifted back"),
        pytest.param(np.arange(N + 3)[::-1], id="b=0 declared first and stored last"),
    ],
)
def test_a_table_whose_b0_are_not_the_brightest_is_refused(
    order: np.ndarray,  # type: ignore[type-arg]
    tmp_path: Path,
    call: Run,
) -> None:
    scan = save_scan(tmp_path / "c.nii.gz")
    write_table(scan, SHELL[order], VECTORS[order])
    for line in ("check c.nii.gz", "fit c.nii.gz --epochs 1"):
        done = call(line, tmp_path)
        assert done.status == 2
        assert "expected the signal to fall with the b-value" in done.stdout + done.stderr
    assert not (tmp_path / "qspace-nd-model").exists()


@pytest.mark.parametrize("flip", FLIPS[1:], ids=str)
def test_flipped_b_vectors_are_told_with_what_fits(flip: object, tmp_path: Path, call: Run) -> None:
    scan = save_scan(tmp_path / "c.nii.gz")
    matrix = flip.matrix  # type: ignore[attr-defined]
    write_table(scan, SHELL, VECTORS @ matrix.T)
    done = call("check c.nii.gz", tmp_path)
    assert done.status == 0
    back = next(
        str(one)
        for one in FLIPS
        if any(np.allclose(s * one.matrix @ matrix, np.eye(3)) for s in (1, -1))
    )
    assert f"c.bvec fits the scan less than the same b-vectors {back}:" in done.stdout


def test_b_vectors_as_they_are_or_all_negated_are_not_flipped(tmp_path: Path, call: Run) -> None:
    scan = save_scan(tmp_path / "c.nii.gz")
    for vectors in (VECTORS, -VECTORS):
        write_table(scan, SHELL, vectors)
        done = call("check c.nii.gz", tmp_path)
        assert (done.status, "Warning" in done.stdout) == (0, False), done.stdout


# --- Advice


def test_few_directions_that_are_tilted_name_the_angle_that_lets_them_pass(
    tmp_path: Path, call: Run
) -> None:
    vectors = spiral(12, 3)
    turn = np.deg2rad(12.0)
    about = np.array([[1, 0, 0], [0, np.cos(turn), -np.sin(turn)], [0, np.sin(turn), np.cos(turn)]])
    bvals = SHELL[: len(vectors)]
    save_scan(tmp_path / "c.nii.gz", bvals, vectors)
    save_scan(tmp_path / "p.nii.gz", bvals, vectors @ about.T, 1)
    assert call("fit c.nii.gz --epochs 1", tmp_path).status == 0
    for gradients in ("auto", "strict"):
        refused = call(f"map p.nii.gz -o map.nii.gz --gradients {gradients}", tmp_path)
        assert refused.status == 2
        assert "--max-angle 12" in refused.stderr
    mapped = call("map p.nii.gz -o map.nii.gz --max-angle 12", tmp_path)
    assert mapped.status == 0, mapped.stderr
