from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info

from qspace_nd.errors import ArrayError
from qspace_nd.system.machine import Machine, find_device


@pytest.fixture(autouse=True)
def threads() -> Iterator[int]:
    """PyTorch's own number of threads, put back after a test that changes it."""
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def blas() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info()}


def test_libraries_are_kept_to_the_threads_for_the_length_of_the_block(threads: int) -> None:
    others = blas()
    with Machine(threads=1).limited():
        assert torch.get_num_threads() == 1
        assert blas() == {1}
    assert torch.get_num_threads() == threads
    assert blas() == others


def test_threads_are_put_back_where_the_block_fails(threads: int) -> None:
    with pytest.raises(KeyError), Machine(threads=threads + 1).limited():
        assert torch.get_num_threads() == threads + 1
        raise KeyError
    assert torch.get_num_threads() == threads


def test_without_a_number_threads_stay_as_they_are(threads: int) -> None:
    with Machine().limited():
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("cuda", "mps", "found"), [(0, 0, "cpu"), (1, 0, "cuda"), (0, 1, "mps"), (1, 1, "cuda")]
)
def test_auto_is_a_gpu_where_there_is_one(
    cuda: int, mps: int, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert find_device("auto") == torch.device(found)
    assert find_device("cpu") == torch.device("cpu")
    for name, present in (("cuda", cuda), ("mps", mps)):
        if present:
            assert find_device(name) == torch.device(name)
        else:
            with pytest.raises(ArrayError, match=f"PyTorch finds no device '{name}' on this"):
                find_device(name)


def test_a_device_of_another_name_is_refused() -> None:
    with pytest.raises(ArrayError, match="no device 'tpu' on this machine; use auto or cpu"):
        find_device("tpu")
