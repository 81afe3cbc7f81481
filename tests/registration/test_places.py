from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation

from qspace_nd.registration.alignment import align
from qspace_nd.registration.images import Images, images_of, interpolated, moved, shown_of
from qspace_nd.registration.places import Registration, register, residual


def apart(one: np.ndarray, other: np.ndarray) -> float:
    """Mean distance of points (n, 3), in mm."""
    return float(np.linalg.norm(one - other, axis=1).mean())


@pytest.fixture(scope="module")
def pushed(heads):
    """A head drawn on another lattice, deformed: images, where points go, where they were."""
    target = heads[0].images
    nodes = np.argwhere(np.ones_like(target.mask))

    def there(points: np.ndarray) -> np.ndarray:
        """From the deformed head to the head itself: up to 5 mm, and a motion."""
        wave = 3.5 * np.sin(points[:, [1, 2, 0]] / 12.0) * [1.0, 0.7, 0.5]
        return points + wave + [5.0, -4.0, 3.0]

    points = moved(nodes, target.affine)
    values = interpolated(target.values, target.affine, there(points))
    values = np.nan_to_num(values).reshape(target.values.shape)
    return Images(values, values[1] > 0.3, target.affine), there


@pytest.mark.parametrize("value", [0, 1])
def test_places_are_those_of_a_known_deformation(heads, pushed, value):
    """By the anisotropy, and by the signal at b=0 as a channel of a stack."""
    images, there = pushed
    images, target = (replace(one, values=one.values[value:]) for one in (images, heads[0].images))
    registration = register(images, target)
    inside = ndimage.binary_erosion(images.mask, iterations=2)
    points = moved(np.argwhere(inside), images.affine)
    affine_alone = Registration(registration.affine, None)
    assert apart(registration.at(points), there(points)) < 0.8
    assert apart(affine_alone.at(points), there(points)) > 1.5
    assert apart(registration.back(registration.at(points)), points) < 0.1
    assert registration.at(points).dtype == np.float32


@pytest.mark.parametrize("degrees", [(30.0, 0.0, 0.0), (0.0, -25.0, 15.0)])
def test_a_head_that_lies_turned_and_shifted_comes_to_the_same_places(
    heads, template, upright, degrees
):
    one = heads[3]
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    motion[:3, 3] = [40.0, -25.0, 30.0]
    turned = one.with_affine(motion @ one.affine)
    lying = register(turned.images, template)
    assert apart(lying.at(turned.points), upright.at(one.points)) < 0.6


def test_a_part_of_a_head_comes_to_the_same_places(heads, template, upright):
    one = heads[3]
    box = (slice(None), slice(None), slice(14, 24))
    start = np.eye(4)
    start[2, 3] = 14
    volume = np.zeros((*one.mask.shape, 3), np.float32)
    volume[one.mask] = one.features
    mask = one.mask[box]
    slab = images_of(shown_of(volume[box][mask]), mask, one.affine @ start)
    points = moved(np.argwhere(mask), one.affine @ start)
    assert apart(register(slab, template).at(points), upright.at(points)) < 2.0


def test_the_residual_of_a_shifted_registration_is_larger(heads, template, upright):
    images = heads[3].images
    registration = upright
    assert registration.residual == residual(images, template, registration)
    shift = np.eye(4)
    for axis in range(3):
        shift[:3, 3] = 8.0 * np.eye(3)[axis]
        shifted = Registration(shift @ registration.affine, None)
        still = Registration(registration.affine, None)
        assert residual(images, template, shifted) > residual(images, template, still)
        assert residual(images, template, shifted) > 2 * registration.residual


def test_the_affine_alone_brings_a_head_to_itself_moved(heads):
    images = heads[0].images
    motion = np.eye(4)
    motion[:3, 3] = [10.0, 20.0, -15.0]
    moved_images = Images(images.values, images.mask, motion @ images.affine)
    np.testing.assert_allclose(align(moved_images, images), np.linalg.inv(motion), atol=0.3)


def test_a_member_of_the_template_is_compared_with_the_mean_of_the_others(heads):
    """With the mean of two heads, that is the other head alone."""
    one, other = (head.images for head in heads[:2])
    still = Registration(np.eye(4), None)
    resampled = interpolated(other.values, other.affine, moved(_nodes(one), one.affine))
    resampled = np.nan_to_num(resampled).reshape(one.values.shape)
    mean = Images((one.values + resampled) / 2, one.mask, one.affine)
    alone = Images(resampled, one.mask, one.affine)
    assert residual(one, mean, still, among=2) == pytest.approx(residual(one, alone, still))
    assert residual(one, mean, still) < residual(one, mean, still, among=2)


def _nodes(images: Images) -> np.ndarray:
    return np.argwhere(np.ones_like(images.mask))
