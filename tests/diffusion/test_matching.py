from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.fsl import read_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.matching import channel_order
from qspace_nd.errors import GradientError
from tests.diffusion.tables import angles_between, directions, permuted, table

DATA = os.environ.get("QSPACE_ND_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="QSPACE_ND_DATA names no folder of real scans")


def real(name: str) -> GradientTable:
    import nibabel as nib

    stem = Path(str(DATA)) / name
    image = nib.load(f"{stem}_dwi.nii.gz")
    return read_gradients(
        Path(f"{stem}_dwi.bval"), Path(f"{stem}_dwi.bvec"), image.affine, image.shape[3]
    )


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
