from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.fsl import fsl_to_world, read_gradients, world_to_fsl, write_gradients
from qspace_nd.errors import GradientError
from tests.diffusion.tables import directions, table

LAS = np.diag([-2.0, 2.0, 2.0, 1.0])
RAS = np.diag([2.0, 2.0, 2.0, 1.0])


def write(folder: Path, bvals: str, bvecs: str) -> tuple[Path, Path]:
    bval, bvec = folder / "s.bval", folder / "s.bvec"
    bval.write_text(bvals)
    bvec.write_text(bvecs)
    return bval, bvec


@pytest.mark.parametrize(
    ("affine", "bvec", "world"),
    [
        (LAS, [1, 0, 0], [-1, 0, 0]),  # radiological storage: the vector is in image axes
        (RAS, [1, 0, 0], [-1, 0, 0]),  # neurological storage: x flipped
        (RAS, [0, 1, 0], [0, 1, 0]),
        (np.diag([-2.0, -2.0, 2.0, 1.0]), [1, 0, 0], [1, 0, 0]),  # LPS: positive determinant
        (np.diag([-1.0, 3.0, 9.0, 1.0]), [0, 0.6, 0.8], [0, 0.6, 0.8]),  # voxel sizes do not count
    ],
)
def test_b_vectors_are_image_axes_with_x_flipped_where_the_determinant_is_positive(
    affine: np.ndarray, bvec: list[float], world: list[float]
) -> None:
    np.testing.assert_allclose(fsl_to_world(np.array([bvec], float), affine), [world], atol=1e-12)


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    axes=st.permutations([0, 1, 2]),
    sizes=st.tuples(*[st.floats(0.5, 5)] * 3),
)
@settings(max_examples=60, deadline=None)
def test_directions_survive_the_way_into_an_image_and_back(
    angles: tuple[float, ...],
    flips: tuple[float, ...],
    axes: list[int],
    sizes: tuple[float, ...],
) -> None:
    affine = np.eye(4)
    affine[:3, :3] = (Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flips)[:, axes]
    affine[:3, :3] *= sizes
    world = directions(7)
    stored = world_to_fsl(world, affine)
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1)
    np.testing.assert_allclose(fsl_to_world(stored, affine), world, atol=1e-9)


def test_three_rows_and_one_row_a_volume_are_read_alike(tmp_path: Path) -> None:
    bval, bvec = write(tmp_path, "0 1000 1000 1000\n", "0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    by_rows = read_gradients(bval, bvec, LAS, 4)
    bval.write_text("0\n1000\n1000\n1000\n")
    bvec.write_text("0,0,0\n1,0,0\n0,1,0\n0,0,1\n")
    by_volumes = read_gradients(bval, bvec, LAS, 4)
    np.testing.assert_array_equal(by_rows.directions, by_volumes.directions)
    np.testing.assert_array_equal(by_rows.bvals, [0, 1000, 1000, 1000])
    np.testing.assert_array_equal(by_rows.b0, [True, False, False, False])


def test_whatever_stands_for_a_vector_at_b_up_to_50_is_taken_as_zero(tmp_path: Path) -> None:
    paths = write(tmp_path, "0 5 50 700", "nan 0.3 1 0\nnan 0.1 0 1\nnan 0 0 0\n")
    np.testing.assert_array_equal(
        read_gradients(*paths, LAS, 4).directions, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [0, 1, 0]]
    )


def test_vectors_written_with_two_decimals_become_unit_vectors(tmp_path: Path) -> None:
    paths = write(tmp_path, "0 1000", "0 0.57\n0 0.58\n0 0.57\n")
    found = read_gradients(*paths, LAS, 2).directions[1]
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("affine", [LAS, RAS, np.diag([-2.0, -2.0, 2.0, 1.0]), LAS[[2, 0, 1, 3]]])
def test_gradients_written_for_an_image_are_read_back(affine: np.ndarray, tmp_path: Path) -> None:
    gradients = table([0, 1000, 1000, 5, 2000])
    bval, bvec = tmp_path / "new" / "s.bval", tmp_path / "new" / "s.bvec"
    write_gradients(bval, bvec, gradients, affine)
    found = read_gradients(bval, bvec, affine, 5)
    np.testing.assert_allclose(found.directions, gradients.directions, atol=2e-6)
    np.testing.assert_array_equal(found.bvals, gradients.bvals)
    assert "-0.000000" not in bvec.read_text()
    assert len(bvec.read_text().splitlines()) == 3


BAD = {
    "words for b-values": (
        "0 b1000",
        "0 1\n0 0\n0 0",
        r"s\.bval holds something else than numbers",
    ),
    "words for b-vectors": ("0 1000", "0 1\n0 x\n0 0", r"s\.bvec holds something else than numb"),
    "too few b-values": ("0", "0 1\n0 0\n0 0", r"s\.bval has 1 b-value, but its scan has 2 vol"),
    "an empty b-value file": ("", "0 1\n0 0\n0 0", r"s\.bval has 0 b-values, but its scan has 2"),
    "too many b-vectors": ("0 1000", "0 1 0\n0 0 1\n0 0 0", r"s\.bvec has 3 b-vectors, but .* 2 v"),
    "two rows": ("0 1000", "0 1\n0 0", r"s\.bvec has 2 rows of 2 numbers, but its scan has 2 vol"),
    "ragged rows": ("0 1000", "0 1\n0\n0 0", r"s\.bvec has rows of unequal lengths \(2, 1, 2\)"),
    "an empty b-vector file": ("0 1000", "", r"s\.bvec has 0 rows of 0 numbers"),
    "a negative b-value": (
        "0 -1000",
        "0 1\n0 0\n0 0",
        r"negative or not finite: volume 1 \(-1000\)",
    ),
    "b-values in s/m²": (
        "0 1e9",
        "0 1\n0 0\n0 0",
        r"up to 1e\+09; expected s/mm², up to 1,000,000",
    ),
    "a huge b-value": ("0 1e308", "0 1\n0 0\n0 0", r"up to 1e\+308; expected s/mm²"),
    "a huge b-vector": ("0 900", "0 1\n0 1e308\n0 0", r"not of unit length .* \(length inf\)"),
    "b-values that are nan": (
        "nan 900",
        "0 1\n0 0\n0 0",
        r"negative or not finite: volume 0 \(nan",
    ),
    "only b=0": ("0 1", "0 1\n0 0\n0 0", r"no b-value above 50 s/mm² \(the largest is 1\)"),
    "nan where b>50": ("0 1000", "0 nan\n0 0\n0 0", r"not finite numbers at b > 50: volume 1 "),
    "length 0.5": (
        "0 1000",
        "0 .5\n0 0\n0 0",
        r"not of unit length at b > 50: volume 1 \(length 0.5",
    ),
    "length 3": (
        "0 700 700",
        "0 3 1\n0 0 0\n0 0 0",
        r"unit length at b > 50: volume 1 \(length 3\)",
    ),
    "only zero vectors": ("0 1000", "0 0\n0 0\n0 0", r"only zero vectors, also at b > 50"),
}


@pytest.mark.parametrize(("bvals", "bvecs", "sentence"), BAD.values(), ids=BAD.keys())
def test_malformed_gradients_are_refused_in_a_sentence(
    tmp_path: Path, bvals: str, bvecs: str, sentence: str
) -> None:
    paths = write(tmp_path, bvals, bvecs)
    with pytest.raises(GradientError, match=sentence):
        read_gradients(*paths, LAS, 3 if "700 700" in bvals else 2)


def test_a_missing_partner_is_named(tmp_path: Path) -> None:
    bval, bvec = write(tmp_path, "0 1000", "0 1\n0 0\n0 0")
    with pytest.raises(GradientError, match=r"s\.bval has no b-vectors that belong .* --bvec"):
        read_gradients(bval, None, LAS, 2)
    with pytest.raises(GradientError, match=r"s\.bvec has no b-values that belong .* --bval"):
        read_gradients(None, bvec, LAS, 2)
    with pytest.raises(GradientError, match=r"gone\.bval does not exist"):
        read_gradients(tmp_path / "gone.bval", bvec, LAS, 2)
    with pytest.raises(GradientError, match=r"s\.bval holds something else than numbers"):
        bval.write_bytes(b"\xff\xfe\x00")
        read_gradients(bval, bvec, LAS, 2)
    with pytest.raises(GradientError, match="cannot be read"):
        read_gradients(tmp_path, bvec, LAS, 2)


def test_lengths_that_scale_b_are_named_with_the_effective_b_values(tmp_path: Path) -> None:
    short = np.sqrt(0.25)
    bvecs = f"0 1 0 {short} 0\n0 0 1 0 {short}\n0 0 0 0 0"
    paths = write(tmp_path, "0 2000 2000 2000 2000", bvecs)
    with pytest.raises(
        GradientError, match=r"GE scanners .* b·\|g\|² are 0, 500, 2000; write these"
    ):
        read_gradients(*paths, LAS, 5)


def test_trace_volumes_are_named_with_the_way_to_remove_them(tmp_path: Path) -> None:
    paths = write(tmp_path, "0 700 700 700 700", "0 1 0 0 0\n0 0 0 1 0\n0 0 0 0 0")
    with pytest.raises(
        GradientError, match=r"volumes 2, 4 \(counted from 0\), which are trace .* -coord 3 0:1,3 "
    ):
        read_gradients(*paths, LAS, 5)
