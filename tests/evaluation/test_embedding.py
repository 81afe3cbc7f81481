"""Volumes inside a page: nothing is lost that is seen."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qspace_nd.evaluation.embedding import Frame, bits, thumbnail, volume
from tests.evaluation.pages import FLIPPED, ball, mask_in, values_in


@pytest.mark.parametrize("depth", [8, 16])
def test_values_come_back_within_half_a_step(depth: int) -> None:
    values = np.random.default_rng(0).gamma(2, 1, 5000)
    span = float(values.min()), float(values.max())
    found = values_in(volume(values, depth, span))
    step = (span[1] - span[0]) / (2**depth - 1)
    assert np.abs(found - values).max() <= step / 2 * (1 + 1e-9)


@given(
    st.lists(st.floats(0, 6, width=32), min_size=1, max_size=50),
    st.lists(st.sampled_from([1.3, 2.0, 2.001, 3.0, 4.0]), min_size=1, unique=True),
)
def test_no_value_crosses_a_threshold(values: list[float], edges: list[float]) -> None:
    near = [edge + offset for edge in edges for offset in (-1e-6, 0, 1e-6)]
    all_of = np.array([*values, *near, 0.0, 6.0])
    found = values_in(volume(all_of, 16, (0.0, 6.0), edges=edges))
    for edge in edges:
        np.testing.assert_array_equal(found > edge, all_of > edge)
    assert np.abs(found - all_of).max() <= 6 / 65535


def test_values_that_are_all_alike_come_back() -> None:
    np.testing.assert_array_equal(values_in(volume(np.full(4, 2.5), 16, (2.5, 2.5))), 2.5)


def test_what_lies_beyond_the_span_becomes_its_end() -> None:
    found = values_in(volume(np.array([-9.0, 0.5, 9.0]), 8, (0.0, 1.0)))
    np.testing.assert_allclose(found, [0, 0.5, 1], atol=1 / 255)


def test_a_mask_comes_back() -> None:
    mask = np.random.default_rng(0).random((5, 7, 3)) < 0.4
    np.testing.assert_array_equal(mask_in(bits(mask), [5, 7, 3]), mask)


def test_a_frame_has_the_brain_and_4_mm_around_it() -> None:
    mask = np.zeros((40, 40, 40), bool)
    mask[20, 15, 22] = True
    frame = Frame.of(mask, FLIPPED)
    assert frame.mask.shape == (5, 3, 3)  # of 2, 3 and 2.5 mm
    assert np.count_nonzero(frame.mask) == 1
    inside = np.argwhere(frame.near) - np.argwhere(frame.mask)
    assert np.linalg.norm(inside * [2, 3, 2.5], axis=1).max() <= 4
    (there,) = np.argwhere(frame.mask)
    place = frame.affine[:3, :3] @ there + frame.affine[:3, 3]
    np.testing.assert_allclose(place, FLIPPED[:3, :3] @ [20, 15, 22] + FLIPPED[:3, 3])


def test_voxels_are_counted_along_the_world_wherever_they_are_stored() -> None:
    tilted = FLIPPED.copy()
    tilted[:3, :3] = [[-1.9, 0.2, 0.1], [0.1, 0.3, 2.4], [0.2, 2.9, -0.3]]
    for affine in (FLIPPED, tilted):
        frame = Frame.of(ball((12, 11, 10)), affine)
        facts = frame.facts()
        counted = np.array([3, 4, 2])
        index = facts["origin"] + int(np.dot(facts["steps"], counted))
        stored = np.array(np.unravel_index(index, facts["shape"]))
        assert sorted(facts["room"]) == sorted(frame.mask.shape)
        sides = np.linalg.norm(np.array(facts["affine"])[:3, :3], axis=0)
        np.testing.assert_allclose(facts["sizes"], sides)
        to_world, back = np.array(facts["affine"]), np.array(facts["inverse"])
        place = frame.affine[:3, :3] @ stored + frame.affine[:3, 3]
        np.testing.assert_allclose(to_world[:3, :3] @ counted + to_world[:3, 3], place)
        np.testing.assert_allclose(back[:3, :3] @ place + back[:3, 3], counted, atol=1e-9)
        assert (np.diag(to_world)[:3] > 0).all()


def test_a_thumbnail_shows_the_brightest_with_the_right_on_the_left() -> None:
    mask = np.ones((8, 10, 6), bool)
    values = np.zeros(mask.shape, np.float32)
    affine = np.diag([2.0, 2, 2, 1])
    values[7, 9, 3] = 5  # right, in front
    made = thumbnail(values[mask], mask, affine, 5.0)
    assert made["width"] == round(64 * 8 / 10)
    picture = _drawn(made)
    assert picture.shape == (10, 8, 3)
    assert picture[0, 0].tolist() == [254, 216, 25]
    grey = picture.reshape(-1, 3)[1:]
    assert (grey == 40).all()


def test_a_large_thumbnail_is_made_smaller() -> None:
    mask = np.ones((150, 130, 4), bool)
    made = thumbnail(np.zeros(mask.sum(), np.float32), mask, np.diag([1.0, 1, 1, 1]), 5.0)
    assert max(_drawn(made).shape) <= 64


def _drawn(made: dict[str, Any]) -> np.ndarray:
    """The pixels (rows, columns, 3) of a thumbnail."""
    kind, data = made["png"].split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data))).convert("RGB"))
