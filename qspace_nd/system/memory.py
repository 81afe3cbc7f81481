"""How much memory may be used, and how much is."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

GB = 10**9

_SHARE = 0.75  # of what is available, where no limit is given
_UNKNOWN = 4 * GB  # taken as available where the system does not tell
_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def remaining(limit: int | None) -> int:
    """How many more bytes this process may take.

    With a `limit` for all that it uses, what is left of it beyond what is in use already; without
    one, three quarters of what is available now.
    """
    if limit is None:
        return int(_SHARE * available())
    return max(0, limit - in_use())


def in_use() -> int:
    """Bytes of memory that this process uses.

    Without what is mapped of files, which the system takes back when memory is wanted: programs,
    a model's parts and its search tree.
    """
    try:
        resident, mapped = map(int, Path("/proc/self/statm").read_text().split()[1:3])
    except OSError:  # the peak, where the system tells no more
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return (resident - mapped) * os.sysconf("SC_PAGE_SIZE")


def available() -> int:
    """How many more bytes there are for this process.

    The least that the system, its control group and its Slurm job leave to it.
    """
    found = [_of_system(), _of_group(), _of_slurm()]
    return max(0, min((number for number in found if number is not None), default=_UNKNOWN))


def _of_system() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return pages - in_use() if pages > 0 else None
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if kilobytes is None else 1024 * int(kilobytes)


def _of_group() -> int | None:
    """What a control group of Linux, a container's for one, leaves; of either version."""
    for limit in _GROUP_LIMITS:
        if limit.is_file() and limit.read_text().strip().isdigit():  # else "max"
            return int(limit.read_text()) - in_use()
    return None


def _of_slurm() -> int | None:
    """What a Slurm job leaves of its memory, which Slurm gives in MB; 0 is all of a node's."""
    megabytes = os.environ.get("SLURM_MEM_PER_NODE", "")
    return int(megabytes) * 2**20 - in_use() if megabytes.isdigit() and int(megabytes) else None
