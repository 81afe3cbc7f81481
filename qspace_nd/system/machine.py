"""What of the machine a piece of work may use: device, memory, threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from qspace_nd.errors import ArrayError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
"""What a device may be called; "auto" is a GPU where PyTorch finds one."""


@dataclass(frozen=True)
class Machine:
    """What of the machine a piece of work may use.

    Attributes
    ----------
    device : str
        One of `DEVICES`, for the network; on "cuda" all pairs are compared there too.
    memory : int or None
        Bytes that the process may use; None for three quarters of what is available.
    threads : int or None
        Threads that compute; None for as many as PyTorch uses already. No result depends on it.

    Raises
    ------
    ArrayError
        A number is out of range.
    """

    device: str = "auto"
    memory: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.memory is not None and not 0 < self.memory < inf:
            raise ArrayError(f"memory is {self.memory}; bytes, more than 0, are wanted.")
        if self.threads is not None and self.threads < 1:
            raise ArrayError(f"threads is {self.threads}; 1 or more are wanted.")

    @contextmanager
    def limited(self) -> Iterator[None]:
        """Keep the libraries to `threads` for the length of the block."""
        if self.threads is None:
            yield
            return
        import torch
        from threadpoolctl import threadpool_limits

        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                yield
        finally:
            torch.set_num_threads(before)


def cores() -> int:
    """How many threads this process may compute with.

    What Slurm gives to a task; else the cores that the system lets it use.
    """
    of_slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    if of_slurm.isdigit() and int(of_slurm):
        return int(of_slurm)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where PyTorch finds one.

    Raises
    ------
    ArrayError
        PyTorch finds no such device.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next((device for device, found in present.items() if found), "cpu"))
    if name != "cpu" and not present.get(name, False):
        raise ArrayError(f"PyTorch finds no device {name!r} on this machine; use auto or cpu.")
    return torch.device(name)


def processor(device: str) -> str:
    """The kind of processor that a network computes on, as far as results depend on it.

    Kinds round sums in other ways: of one voxel the latents differ in their last digits.
    """
    import torch

    found = find_device(device)
    kind = f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"
    return f"{torch.cuda.get_device_name(found)}, {kind}" if found.type == "cuda" else kind
