"""What users hand to a model: what is taken, and how, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from qspace_nd.errors import ArrayError
from qspace_nd.model.arguments import as_numbers, as_rows, by_subject
from tests.model.conftest import GROUPS, SUBJECTS, images, voxels


def with_value(value: float) -> np.ndarray:
    x = voxels()
    x[3, 1] = x[3, 2] = x[7, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (with_value(math.nan), "X holds NaN or infinity in 2 of 400 rows; remove them"),
        (with_value(-math.inf), "X holds NaN or infinity in 2 of 400 rows"),
        (np.where(np.eye(9) > 0, 1e300, 1.0), "X holds NaN or infinity in 9 of 9 rows"),
        ([["a", "b"], ["c", "d"]], r"X is not an array of numbers \(it holds str\d+ values\)"),
        ([["1", "2"], ["3", "4"]], r"X is not an array of numbers \(it holds str\d+ values\)"),
        (np.array([["a", 2], [3, 4]], dtype=object), "X is not an array of numbers .*'a'"),
        (np.ones((4, 2), complex), r"X is not an array of numbers \(it holds complex128 values\)"),
        (csr_array(np.eye(4)), r"X is sparse, which is not supported; give X.toarray\(\)"),
        ([[1.0, 2.0], [3.0]], "X is not an array of numbers"),
        ([[None, 1.0], [2.0, 3.0]], "X "),
        (np.ones(5), r"X has shape \(5,\); an array of rows and columns is wanted"),
        (np.ones((4, 3, 2)), r"X has shape \(4, 3, 2\); .* images \(n, planes, height, width\)"),
        (np.ones((4, 1, 0, 2)), r"X has shape \(4, 1, 0, 2\)"),
        (np.full((3, 1, 4, 4), np.nan), "X holds NaN or infinity in 3 of 3 rows"),
        (3.0, r"X has shape \(\)"),
        (np.ones((5, 0)), r"X has shape \(5, 0\)"),
    ],
)
def test_a_wrong_array_is_refused(x: Any, sentence: str) -> None:
    with pytest.raises(ArrayError, match=sentence):
        as_numbers(x, "X")


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        np.asfortranarray,
        torch.from_numpy,
        lambda x: x.astype(">f4"),
        lambda x: np.repeat(x, 2, axis=0)[::2],
    ],
)
def test_arrays_of_any_kind_are_taken(convert: Any) -> None:
    x = as_numbers(convert(voxels(30)), "X")
    np.testing.assert_array_equal(x, voxels(30))
    assert x.dtype == np.dtype("=f4")
    assert x.flags.c_contiguous


def test_arrays_that_may_not_be_written_to_are_copied_and_others_are_not(tmp_path: Path) -> None:
    x = voxels(30)
    assert as_numbers(x, "X") is x
    np.save(tmp_path / "x.npy", x)
    mapped = as_numbers(np.load(tmp_path / "x.npy", mmap_mode="r"), "X")
    np.testing.assert_array_equal(mapped, x)
    assert mapped.flags.writeable


def test_rows_are_of_the_shape_that_the_model_was_fitted_with() -> None:
    np.testing.assert_array_equal(as_rows(voxels(5), "X", (7,), "channels"), voxels(5))
    flat = as_rows(images(5), "X", (1, 6, 5), "channels")
    np.testing.assert_array_equal(flat, images(5).reshape(5, 30))
    assert as_rows(np.empty((0, 7)), "X", (7,), "channels").shape == (0, 7)
    with pytest.raises(ArrayError, match="z has 6 columns; the model was fitted with 7 latents"):
        as_rows(voxels(5)[:, :6], "z", (7,), "latents")
    for x, shape in ((voxels(5), (1, 6, 5)), (images(5), (7,)), (images(5), (1, 5, 6))):
        with pytest.raises(ArrayError, match=r"X has shape .*; .* inputs of shape \("):
            as_rows(x, "X", shape, "channels")


@pytest.mark.parametrize(
    "groups",
    [
        GROUPS.tolist(),
        np.array(GROUPS, dtype=object),
        np.array(GROUPS).astype("S3").astype(str),
    ],
)
def test_rows_are_given_to_their_subjects(groups: Any) -> None:
    healthy = by_subject(voxels(), groups)
    assert [part.subject for part in healthy] == list(SUBJECTS)
    for part in healthy:
        np.testing.assert_array_equal(part.rows[:], voxels()[part.subject == GROUPS])


@pytest.mark.parametrize("labels", [[4, 5, 6, 7], [1.0, 2.0, 3.0, 4.0], [b"a", b"b", b"c", b"d"]])
def test_labels_may_be_anything_that_has_a_text(labels: Any) -> None:
    healthy = by_subject(voxels(), np.repeat(labels, 100))
    assert [part.subject for part in healthy] == [str(label) for label in np.array(labels)]


def test_numbers_and_their_text_are_the_same_subject() -> None:
    groups = np.array([1, "1", 2, "2"] * 100, dtype=object)
    assert [(part.subject, len(part.rows)) for part in by_subject(voxels(), groups)] == [
        ("1", 200),
        ("2", 200),
    ]


def test_rows_of_a_subject_need_not_lie_together() -> None:
    groups = np.array(list("abcd") * 100)
    healthy = by_subject(voxels(), groups)
    assert [part.subject for part in healthy] == ["a", "b", "c", "d"]
    np.testing.assert_array_equal(healthy[2].rows[:], voxels()[groups == "c"])


def test_without_groups_all_rows_are_of_one_subject() -> None:
    (part,) = by_subject(voxels(), None)
    np.testing.assert_array_equal(part.rows[:], voxels())


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (["a"] * 399, r"groups has shape \(399,\); one label for each of 400 rows"),
        (np.ones((400, 1)), r"groups has shape \(400, 1\)"),
        ("ann", r"groups has shape \(\)"),
    ],
)
def test_wrong_groups_are_refused(groups: Any, sentence: str) -> None:
    with pytest.raises(ArrayError, match=sentence):
        by_subject(voxels(), groups)
