from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from qspace_nd.errors import ArrayError
from qspace_nd.simulation.anatomy import icbm152_tissues, lattice_points
from qspace_nd.simulation.lesions import LESION_KINDS, draw_lesion_mask, lesion_field

DEMYELINATING = LESION_KINDS["demyelinating"]


def _ball(radius: float, affine: np.ndarray, shape: tuple[int, int, int] = (40, 44, 48)):
    """A ball around the world's origin, and its affine."""
    return np.linalg.norm(lattice_points(shape, affine), axis=-1) <= radius, affine


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(params=["LAS", "RAS, oblique, 0.8 mm"])
def affine(request) -> np.ndarray:
    if request.param == "LAS":
        flipped = np.diag([-1.0, 1.0, 1.0, 1.0])
        flipped[:3, 3] = [20.0, -22.0, -24.0]
        return flipped
    turned = np.eye(4)
    turned[:2, :2] = 0.8 * np.array([[0.96, -0.28], [0.28, 0.96]])
    turned[2, 2] = 0.8
    turned[:3, 3] = -turned[:3, :3] @ [20, 22, 24]
    return turned


def test_drawn_lesions_are_many_small_and_few_large():
    mask, _ = draw_lesion_mask(_rng())
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel())[1:]
    assert count >= 10
    assert np.median(sizes) < 300 < 2000 < sizes.max()


def test_drawn_lesions_lie_in_white_matter_and_mostly_near_the_ventricles():
    white, _, fluid = icbm152_tissues().values
    ventricles = np.zeros_like(fluid, bool)
    ventricles[45:-45, 50:-50, 40:-60] = fluid[45:-45, 50:-50, 40:-60] > 0.5
    distance = ndimage.distance_transform_edt(~ventricles[::2, ::2, ::2]) * 2
    drawn = np.any([draw_lesion_mask(_rng(seed))[0] for seed in range(3)], axis=0)
    assert white[drawn].min() > 0.3
    halved = drawn[::2, ::2, ::2]
    everywhere = distance[white[::2, ::2, ::2] > 0.8]
    assert np.median(distance[halved]) < 0.7 * np.median(everywhere)


def test_a_seed_draws_the_same_lesions_and_another_seed_others():
    first, again, other = (draw_lesion_mask(_rng(seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_lesion_stays_where_its_mask_lies_in_the_world(affine):
    field = lesion_field(*_ball(9.0, affine), DEMYELINATING, 3.0, _rng())
    probe = np.array([[0, 0, 0], [0, 0, 4], [9, 0, 0], [0, -9, 0], [0, 13, 0]], np.float32)
    fraction = field.at(probe)[:, 0]
    np.testing.assert_allclose(fraction, [1, 1, 0.45, 0.45, 0], atol=0.12)


def test_severity_is_one_for_a_lesion_and_falls_to_its_edge():
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = [-20, -22, -24]
    field = lesion_field(*_ball(9.0, affine), DEMYELINATING, 3.0, _rng())
    line = np.stack([np.linspace(0, 14, 15), np.zeros(15), np.zeros(15)], axis=1)
    fraction, altered = field.at(line.astype(np.float32)).T
    inside = fraction > 1e-3
    np.testing.assert_allclose(np.ptp(altered[inside] / fraction[inside]), 0.0, atol=1e-3)
    assert np.all(np.diff(altered) <= 1e-6)
    assert 0 < altered[0] < 1


def test_every_lesion_has_a_severity_of_its_own():
    mask = np.zeros((30, 30, 30), bool)
    mask[3:9, 3:9, 3:9] = mask[18:24, 18:24, 18:24] = True
    field = lesion_field(mask, np.eye(4), DEMYELINATING, 2.0, _rng(1))
    first, second = field.at(np.array([[5.5] * 3, [20.5] * 3], np.float32))[:, 1]
    assert abs(first - second) > 0.01


@pytest.mark.parametrize("shape", [(5, 5), (4, 4, 4)])
def test_a_mask_without_lesions_or_of_another_dimension_is_refused(shape):
    with pytest.raises(ArrayError, match=r"lesion mask has the shape .* and 0 lesion voxels"):
        lesion_field(np.zeros(shape, bool), np.eye(4), DEMYELINATING, 3.0, _rng())
