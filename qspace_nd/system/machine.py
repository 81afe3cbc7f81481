"""What of the machine a piece of work may use: device, memory, threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits

from qspace_nd.errors import ArrayError


@dataclass(frozen=True)
class Machine:
    """What of the machine a piece of work may use.

    Attributes
    ----------
    device : str
        "auto", "cpu", "cuda" or "mps", for the network; on "cuda" all pairs are compared there too.
    memory : int or None
        Bytes that the process may use; None for three quarters of what is available.
    threads : int or None
        Threads that compute; None for as many as PyTorch uses already. No result depends on it.
    """

    device: str = "auto"
    memory: int | None = None
    threads: int | None = None

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Keep the libraries to `threads` for the length of the block."""
        if self.threads is None:
            yield
            return
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                yield
        finally:
            torch.set_num_threads(before)


def find_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where PyTorch finds one.

    Raises
    ------
    ArrayError
        PyTorch finds no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((device for device, found in present.items() if found), "cpu"))
    if name != "cpu" and not present.get(name, False):
        raise ArrayError(f"PyTorch finds no device {name!r} on this machine; use auto or cpu.")
    return torch.device(name)
