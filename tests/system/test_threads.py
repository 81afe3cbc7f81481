from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from qspace_nd.system.threads import single_thread, workers


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    """PyTorch uses three threads; its own number is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_one_thread_computes_for_the_length_of_the_block() -> None:
    with single_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with pytest.raises(KeyError), single_thread():
        raise KeyError
    assert torch.get_num_threads() == 3


def test_there_are_as_many_workers_as_threads_and_each_computes_on_one() -> None:
    with workers() as pool:
        assert pool._max_workers == 3
        assert set(pool.map(lambda _: torch.get_num_threads(), range(30))) == {1}
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3


def test_what_a_worker_raises_is_raised_and_threads_are_put_back() -> None:
    def fail(number: int) -> None:
        raise KeyError(number)

    with pytest.raises(KeyError), workers() as pool:
        list(pool.map(fail, range(3)))
    assert torch.get_num_threads() == 3
