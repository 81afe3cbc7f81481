from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.gradients import (
    GradientTable,
    channel_order,
    fsl_to_world,
    read_gradients,
    world_to_fsl,
)
from qspace_nd.errors import GradientError

DATA = os.environ.get("QSPACE_ND_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="QSPACE_ND_DATA names no folder of real scans")

LAS = np.diag([-2.0, 2.0, 2.0, 1.0])
RAS = np.diag([2.0, 2.0, 2.0, 1.0])


def directions(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def table(bvals: list[float], seed: int = 0) -> GradientTable:
    b = np.array(bvals, dtype=float)
    return GradientTable(b, directions(len(b), seed) * (b > 50)[:, None])


def permuted(gradients: GradientTable, order: np.ndarray) -> GradientTable:
    return GradientTable(gradients.bvals[order], gradients.directions[order])


def write(folder: Path, bvals: str, bvecs: str) -> tuple[Path, Path]:
    bval, bvec = folder / "s.bval", folder / "s.bvec"
    bval.write_text(bvals)
    bvec.write_text(bvecs)
    return bval, bvec


def real(name: str) -> GradientTable:
    import nibabel as nib

    stem = Path(str(DATA)) / name
    image = nib.load(f"{stem}_dwi.nii.gz")
    return read_gradients(
        Path(f"{stem}_dwi.bval"), Path(f"{stem}_dwi.bvec"), image.affine, image.shape[3]
    )


def angles_between(one: GradientTable, other: GradientTable) -> np.ndarray:
    weighted = ~one.b0
    cosines = np.abs((one.directions * other.directions).sum(axis=1))[weighted]
    return np.degrees(np.arccos(np.clip(cosines, 0, 1)))


# --- FSL's convention


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


# --- Reading


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


BAD = {
    "words for b-values": (
        "0 b1000",
        "0 1\n0 0\n0 0",
        r"s\.bval holds something else than numbers",
    ),
    "words for b-vectors": ("0 1000", "0 1\n0 x\n0 0", r"s\.bvec holds something else than numb"),
    "too few b-values": ("0", "0 1\n0 0\n0 0", r"s\.bval has 1 b-values, but its scan has 2 vol"),
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


# --- Order


def test_a_scan_in_the_models_own_order_keeps_it() -> None:
    model = table([0, 1000, 1000, 5, 2000])
    assert channel_order(model, model, "s").tolist() == [0, 1, 2, 3, 4]


@given(st.permutations(range(12)), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_permuted_volumes_are_put_in_the_models_order(order: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    model = table([0, 0, 0, 1000, 1000, 1000, 1000, 1000, 2000, 2000, 2000, 2000], seed)
    scan = permuted(model, np.array(order))
    signs = rng.choice([-1.0, 1.0], size=(12, 1))
    scan = GradientTable(scan.bvals * rng.uniform(0.98, 1.02, 12), scan.directions * signs)
    found = channel_order(model, scan, "s")
    assert sorted(found) == list(range(12))
    again = permuted(scan, found)
    np.testing.assert_array_equal(again.b0, model.b0)
    assert angles_between(model, again).max() < 5
    assert (np.diff(found[:3]) > 0).all()  # b=0 volumes keep their order


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_an_order_is_found_exactly_where_one_exists(seed: int) -> None:
    rng = np.random.default_rng(seed)
    base = directions(2, seed)[rng.integers(0, 2, 5)]

    def noisy() -> GradientTable:  # clusters of directions that lie about 5 degrees apart
        vectors = base + rng.normal(scale=0.045, size=base.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return GradientTable(np.full(5, 1000.0), vectors)

    model, scan = noisy(), noisy()
    exists = any(
        angles_between(model, permuted(scan, np.array(order))).max() <= 5
        for order in itertools.permutations(range(5))
    )
    if exists:
        found = channel_order(model, scan, "s")
        assert angles_between(model, permuted(scan, found)).max() <= 5 + 1e-9
    else:
        with pytest.raises(GradientError, match="other gradient directions"):
            channel_order(model, scan, "s")


@pytest.mark.parametrize(
    ("model_b", "scan_b", "accepted"),
    [
        (0, 50, True),
        (0, 51, False),
        (700, 750, True),
        (700, 751, False),
        (3000, 3150, True),
        (3000, 3200, False),
    ],
)
def test_b_values_agree_within_5_percent_or_50(
    model_b: float, scan_b: float, accepted: bool
) -> None:
    model = table([9000, model_b])
    scan = GradientTable(np.array([9000.0, scan_b]), directions(2))
    if accepted:
        assert channel_order(model, scan, "s").tolist() == [0, 1]
    else:
        sentence = rf"s has other b-values .* volume 1 \(b={scan_b:g} for the model's {model_b:g}\)"
        with pytest.raises(GradientError, match=sentence):
            channel_order(model, scan, "s")


def test_directions_too_far_off_are_named_with_their_angles() -> None:
    model = GradientTable(
        np.array([0.0, 900, 900]), np.array([[0, 0, 0], [1, 0, 0], [0, 0, 1]]) * 1.0
    )
    turned = Rotation.from_euler("z", 6, degrees=True).apply(model.directions)
    scan = GradientTable(model.bvals, turned)
    sentence = (
        r"s has .* in 1 of 2 weighted volumes: volume 1 \(6\.0°\).* at most 5° .* --max-angle"
    )
    with pytest.raises(GradientError, match=sentence):
        channel_order(model, scan, "s")
    assert channel_order(model, scan, "s", max_angle=7).tolist() == [0, 1, 2]


def test_another_channel_count_is_named_shell_by_shell() -> None:
    sentence = (
        r"s has 4 volumes \(1 at b=0, 3 at b=990\), .* to 3 \(1 at b=0, 1 at b=1000, 1 at b=2000\)"
    )
    with pytest.raises(GradientError, match=sentence):
        channel_order(table([0, 1000, 2000]), table([3, 980, 990, 1000]), "s")


def test_a_table_survives_json() -> None:
    gradients = table([0, 1.25126, 929.75])
    again = GradientTable.from_json(json.loads(json.dumps(gradients.to_json())))
    np.testing.assert_array_equal(again.bvals, gradients.bvals)
    np.testing.assert_array_equal(again.directions, gradients.directions)


@pytest.mark.parametrize(
    "stored",
    [{}, {"bvals": [0, 1], "directions": [[0, 0, 0]]}, {"bvals": ["x"], "directions": [[0, 0, 1]]}],
)
def test_a_stored_table_that_is_none_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(GradientError, match="stored gradient table"):
        GradientTable.from_json(stored)


# --- Real scans


@needs_data
@pytest.mark.parametrize("run", ["AP", "PA", "PArot"])
def test_two_real_people_agree_in_the_world_frame_but_not_in_image_axes(run: str) -> None:
    model = real("uih/sub-A/dwi/sub-A_acq-PArot")
    scan = real(f"uih/sub-B/dwi/sub-B_acq-{run}")
    assert channel_order(model, scan, run).tolist() == list(range(17))
    assert angles_between(model, scan).max() < 1e-3  # degrees
    in_image_axes = np.loadtxt(Path(str(DATA)) / "uih/sub-A/dwi/sub-A_acq-PArot_dwi.bvec").T
    other_axes = np.loadtxt(Path(str(DATA)) / f"uih/sub-B/dwi/sub-B_acq-{run}_dwi.bvec").T
    apart = np.abs((in_image_axes * other_axes).sum(axis=1))[1:]
    assert np.degrees(np.arccos(np.clip(apart, 0, 1))).max() > 5


@needs_data
def test_a_real_tilted_slab_is_refused_with_its_angles() -> None:
    ortho, tilted = (
        real("galan/sub-01/dwi/sub-01_acq-ortho"),
        real("galan/sub-01/dwi/sub-01_acq-cor20"),
    )
    with pytest.raises(GradientError, match=r"in 12 of 12 weighted volumes: .* \(20\.0°\)"):
        channel_order(ortho, tilted, "cor20")
    again = real("galan/sub-01/dwi/sub-01_acq-orthoHT")
    assert channel_order(ortho, again, "orthoHT").tolist() == list(range(13))
