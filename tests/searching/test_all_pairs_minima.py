"""The least distances within blocks, about, by FAISS and by PyTorch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from qspace_nd.searching import all_pairs, all_pairs_minima
from qspace_nd.searching.all_pairs_minima import FaissMinima, TorchMinima, minima_on
from tests.searching.conftest import CPU, brute_force, normal

MINIMA = {"FAISS": FaissMinima, "PyTorch": partial(TorchMinima, device=CPU)}


@pytest.mark.parametrize("way", MINIMA)
@pytest.mark.parametrize("number", [1, 63, 64, 65, 1000])
@pytest.mark.parametrize("queries", [1, 300])
def test_block_minima_are_within_the_bound_on_their_rounding(
    way: str, number: int, queries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(all_pairs_minima, "_PIECE", 192)  # of which 1,000 points need some
    points, x = normal(number, 24), normal(queries, 24, seed=1)
    found = MINIMA[way](points, 64)(x)
    assert found.shape == (-(-number // 64), queries)
    norms = np.linalg.norm(x.astype(np.float64), axis=1)
    for row, start in zip(found, range(0, number, 64), strict=True):
        reach = brute_force(points[start : start + 64], x)[:, 0]
        assert (np.abs(row - reach**2) <= all_pairs._rounding(norms, reach, 24)).all()


def test_points_that_a_device_has_no_room_for_are_moved_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(all_pairs_minima, "_PIECE", 192)
    elsewhere = torch.device("meta")  # which PyTorch has on every machine
    for room, place in ((True, elsewhere), (False, CPU)):
        monkeypatch.setattr(all_pairs_minima, "_has_room", lambda device, size, room=room: room)
        pieces = TorchMinima(normal(1000, 8), 64, elsewhere)._pieces
        assert [len(piece) for piece in pieces] == [192] * 5 + [40]
        assert {piece.device for piece in pieces} == {place}


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
def test_shortened_floats_are_not_used_and_allowed_again_afterwards(
    precision: str, matmul: Any
) -> None:
    torch.set_float32_matmul_precision(precision)
    with all_pairs_minima._no_shorter_floats():
        assert not matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == precision
    assert matmul.allow_tf32 == (precision != "highest")


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="PyTorch is older than 2.9"
)
@pytest.mark.parametrize("precision", ["none", "ieee", "tf32"])
def test_shortened_floats_are_not_used_by_the_newer_setting_either(
    precision: str, matmul: Any
) -> None:
    matmul.fp32_precision = precision
    with all_pairs_minima._no_shorter_floats():
        assert (matmul.fp32_precision, matmul.allow_tf32) == ("ieee", False)
    assert matmul.fp32_precision == precision


def test_pairs_are_compared_on_a_cuda_device_alone() -> None:
    assert minima_on(CPU) is FaissMinima
    assert minima_on(torch.device("mps")) is FaissMinima
    on_gpu = minima_on(torch.device("cuda"))
    assert isinstance(on_gpu, partial)
    assert (on_gpu.func, on_gpu.keywords) == (TorchMinima, {"device": torch.device("cuda")})
