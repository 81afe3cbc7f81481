"""What stands for a voxel: the signal itself, its posterior, its reconstruction."""

from __future__ import annotations

from functools import cached_property

from torch import Tensor

from qspace_nd.blocks import apply_in_blocks
from qspace_nd.gaussian import Gaussian
from qspace_nd.vae import VectorVAE


class Views:
    """The views of n voxels, each computed once, when it is first looked at.

    Attributes
    ----------
    x : (n, C)
        The signals.
    q : Gaussian (n, d)
        Posteriors q(z|x); `q_bar` (n, d) are their means.
    p : Gaussian (n, C)
        Likelihoods p(x|z) at z = `q_bar`; `p_bar` (n, C) are their means.
    """

    def __init__(self, network: VectorVAE, x: Tensor, q: Gaussian[Tensor] | None = None) -> None:
        self.network = network
        self.x = x
        if q is not None:
            self.q = q

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Views:
        return Views(self.network, self.x[rows], self.q[rows])

    @cached_property
    def q(self) -> Gaussian[Tensor]:
        """Posteriors of the signals: (n, d)."""
        return apply_in_blocks(self.network.encode, self.x, self.network.device)

    @property
    def q_bar(self) -> Tensor:
        """Means of the posteriors: (n, d)."""
        return self.q.mean

    @cached_property
    def p(self) -> Gaussian[Tensor]:
        """Likelihoods at the means of the posteriors: (n, C)."""
        return apply_in_blocks(self.network.decode, self.q_bar, self.network.device)

    @property
    def p_bar(self) -> Tensor:
        """Means of the likelihoods: (n, C)."""
        return self.p.mean
