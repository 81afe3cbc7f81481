from __future__ import annotations

import pytest
import torch

from qspace_nd.gaussian import concatenate
from qspace_nd.scores import joining
from qspace_nd.scores.joining import gathered, in_eights
from tests.scores.conftest import cloud, in_chunks


def test_chunks_are_joined_in_their_order_to_no_more_than_a_tree_may_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    healthy = cloud(2000, 5, 0)
    monkeypatch.setattr(joining, "NUMBERS", 2500)
    joined = list(gathered(in_chunks(healthy, 150)))
    assert [len(some) for some in joined] == [450, 450, 450, 450, 200]
    assert torch.equal(concatenate(joined).mean, healthy.mean)
    assert torch.equal(concatenate(joined).std, healthy.std)


def test_one_chunk_may_be_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "NUMBERS", 10)
    assert [len(some) for some in gathered(in_chunks(cloud(7, 5, 0), 3))] == [3, 3, 1]
    assert list(gathered([])) == []


@pytest.mark.parametrize(("dimensions", "numbers"), [(1, 8), (8, 8), (9, 16), (46, 48)])
def test_dimensions_are_filled_up_to_eights(dimensions: int, numbers: int) -> None:
    assert in_eights(dimensions) == numbers
