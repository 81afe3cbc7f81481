"""Passing many rows through a network in blocks, with one result whatever the threads."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from qspace_nd.gaussian import Gaussian, concatenate
from qspace_nd.system.threads import workers

BLOCK = 4096
"""Rows that pass through a network at once.

Always as many, the last block filled up with zeros: a matrix product of another shape sums in
another order, and scores would differ in the last bits with the number of voxels.
"""


@torch.no_grad()
def apply_in_blocks(
    network: Callable[[Tensor], Gaussian[Tensor]],
    rows: Tensor,
    device: torch.device,
    size: int = BLOCK,
) -> Gaussian[Tensor]:
    """Apply `network`, which is on `device`, to `rows` (n, ...) in blocks of `size`.

    The result is on the CPU.

    Runs on as many threads as PyTorch may use.
    """

    def apply(block: Tensor) -> Gaussian[Tensor]:
        missing = size - len(block)
        padding = [0, 0] * (block.ndim - 1) + [0, missing]
        result = network(functional.pad(block, padding).to(device))[: size - missing]
        return Gaussian(result.mean.cpu(), result.std.cpu())

    with workers() as pool:
        return concatenate(list(pool.map(torch.no_grad()(apply), rows.split(size))))
