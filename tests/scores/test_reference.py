"""The healthy reference: whose it is, in what pieces and blocks it is looked at."""

from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qspace_nd.errors import InputError, ModelError
from qspace_nd.network.vae import VectorVAE
from qspace_nd.scores import reference as reference_module
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import View, Views
from qspace_nd.searching.nearest import NearestNeighbours

NETWORK = VectorVAE(1, 2, (4,), "silu").eval().requires_grad_(False)


def reference_of(lengths: list[int]) -> Reference:
    """Parts of so many rows each, which hold their own number."""
    parts, start = [], 0
    for number, length in enumerate(lengths):
        own = Views(NETWORK, torch.arange(start, start + length, dtype=torch.float32)[:, None])
        parts.append(Part(f"{number}", lambda own=own: own))
        start += length
    return Reference(parts)


def rows_of(reference: Reference) -> list[float]:
    return [float(row) for chunk in reference.chunks() for row in chunk.x[:, 0]]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 100))
def test_blocks_are_the_reference_cut_where_chunks_are(lengths: list[int], most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference_module, "ROWS", 7)
        whole = reference_of(lengths)
        blocks = whole.blocks(most)
        assert [row for block in blocks for row in rows_of(block)] == rows_of(whole)
        assert rows_of(whole) == list(range(sum(lengths)))
        chunks = [chunk.x.tolist() for chunk in whole.chunks()]
        assert [chunk.x.tolist() for block in blocks for chunk in block.chunks()] == chunks
        assert all(len(block) <= max(most, 7) for block in blocks)
        assert max(map(len, chunks)) <= 7
        if len(whole) <= most:
            assert blocks == [whole]  # itself, with the indexes that it has


def test_points_are_those_of_all_parts_in_their_order() -> None:
    whole = reference_of([3, 1, 5])
    np.testing.assert_array_equal(whole.points("x")[:, 0], np.arange(9))
    x = torch.arange(9, dtype=torch.float32)[:, None]
    np.testing.assert_allclose(whole.points("q_bar"), Views(NETWORK, x).q_bar, rtol=1e-6)


@pytest.mark.parametrize(("view", "number"), [("x", 1), ("p", 1), ("p_bar", 1), ("q", 2)])
def test_a_view_has_as_many_dimensions_as_the_network_has_channels_or_latents(
    view: View, number: int
) -> None:
    assert reference_of([3]).dimensions(view) == number


def test_a_part_of_a_part_is_those_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_module, "ROWS", 4)
    own = reference_of([20]).parts[0].views
    part = Part("ann", lambda: own, start=3, stop=12)
    assert len(part) == 9
    assert [piece.views.x[:, 0].tolist() for piece in part.pieces()] == [
        [3, 4, 5, 6],
        [7, 8, 9, 10],
        [11],
    ]


def test_an_encoded_part_keeps_its_posteriors_and_can_be_pickled() -> None:
    (part,) = reference_of([5]).parts
    encoded = part.encoded()
    assert encoded.views.q.mean is not encoded.views[:].x
    again = pickle.loads(pickle.dumps(encoded))
    assert again.subject == part.subject
    assert torch.equal(again.views.q.mean, part.views.q.mean)
    assert "q" in vars(again.views)


def test_an_index_is_built_once_for_a_view_and_a_way() -> None:
    whole = reference_of([5, 5])
    built: list[tuple[int, ...]] = []

    def build(points: np.ndarray, device: torch.device) -> NearestNeighbours:
        built.append(points.shape)
        return NearestNeighbours(points, device)

    assert not whole.is_built("x", build)
    assert whole.nearest("x", build) is whole.nearest("x", build)
    assert whole.is_built("x", build)
    assert whole.nearest("q_bar", build) is not whole.nearest("x", build)
    assert whole.nearest("x") is not whole.nearest("x", build)
    assert built == [(10, 1), (10, 2)]
    assert whole.gaussians("q", list) is whole.gaussians("q", list)
    assert [len(chunk) for chunk in whole.gaussians("q", list)] == [5, 5]


def test_a_subjects_parts_are_left_out_and_the_only_subjects_cannot_be() -> None:
    whole = reference_of([2, 3])
    assert rows_of(whole.without("0")) == [2, 3, 4]
    assert whole.without("0").subjects == {"1"}
    with pytest.raises(InputError, match="holds no one but 1, whose own voxels cannot"):
        whole.without("0").without("1")


def test_a_check_looks_at_every_part_and_raises_what_one_does() -> None:
    looked: list[tuple[int, View]] = []

    class Listening(Views):
        def __getitem__(self, rows: slice) -> Views:
            return self

        def check(self, view: View) -> None:
            looked.append((len(self), view))
            if len(self) == 3:
                raise ModelError("damaged")

    def part(rows: int) -> Part:
        return Part("ann", lambda: Listening(NETWORK, torch.zeros(rows, 1)))

    Reference([part(2), part(4)]).check({"x", "q"})
    assert sorted(looked) == [(2, "q"), (2, "x"), (4, "q"), (4, "x")]
    with pytest.raises(ModelError, match="damaged"):
        Reference([part(2), part(3)]).check(["q"])
    reference_of([5]).check(["p_bar"])  # nothing in memory is damaged


def test_who_is_left_out_is_left_out_of_the_index_of_all() -> None:
    random = np.random.default_rng(0)
    x = torch.from_numpy(random.normal(0, 1, (900, 1)).astype(np.float32))
    some = [slice(0, 300), slice(300, 500), slice(500, 900)]
    parts = [
        Part(name, partial(Views, NETWORK, x[rows])) for name, rows in zip("bab", some, strict=True)
    ]
    whole, queries = Reference(parts), random.normal(0, 1, (50, 1)).astype(np.float32)
    for subject, left in (("b", x[300:500]), ("a", torch.cat([x[:300], x[500:]]))):
        others = whole.without(subject)
        found = others.nearest("x").distances(queries, 7)
        np.testing.assert_array_equal(found, NearestNeighbours(left.numpy()).distances(queries, 7))
        assert others.is_built("x", NearestNeighbours)
    assert whole.is_built("x", NearestNeighbours)  # the one that both used


def test_a_block_without_a_subject_does_not_index_a_whole_that_memory_does_not_hold() -> None:
    whole = reference_of([30, 20])
    others = whole.without("0")
    assert others.blocks(50) == [others]
    (block,) = others.blocks(20)
    assert rows_of(block) == rows_of(others)
    assert not block.is_built("x", NearestNeighbours)
    block.nearest("x").distances(np.zeros((1, 1), np.float32))
    assert not whole.is_built("x", NearestNeighbours)
