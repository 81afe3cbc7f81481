"""Threads that each compute alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from qspace_nd.blocks import single_thread


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Open a pool of as many threads as PyTorch may use, which each compute on one thread."""
    threads = torch.get_num_threads()
    # MKL's number of threads is each thread's own: it is set in every worker too.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    with single_thread(), pool:
        yield pool
