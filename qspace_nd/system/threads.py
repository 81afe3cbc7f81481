"""Sharing work out among threads, with one result whatever their number."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch compute each operation on one thread, for the length of the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of as many threads as PyTorch may use, which each compute on one thread."""
    threads = torch.get_num_threads()
    # MKL's number of threads is each thread's own: it is set in every worker too.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    with single_thread(), pool:
        yield pool
