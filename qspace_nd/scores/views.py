"""What stands for a voxel: the signal itself, its posterior, its reconstruction, its place."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import torch
from torch import Tensor

from qspace_nd.arrays import Field, Float32
from qspace_nd.gaussian import Gaussian
from qspace_nd.network.blocks import apply_in_blocks
from qspace_nd.network.vae import VAE

PointView = Literal["x", "q_bar", "p_bar", "features", "placed"]
"""The views by which a voxel is a point."""

GaussianView = Literal["q", "p"]
"""The views by which a voxel is a Gaussian."""

View = PointView | GaussianView

SAMPLES = 45
"""How many samples z_i ~ q(x) and x_i ~ p(z_i) a score draws: S in the paper."""


@dataclass(frozen=True)
class Located:
    """Where n voxels lie in the template, and what their tissue is like whichever way fibres run.

    Attributes
    ----------
    points : (n, 3)
        mm in the template.
    features : (n, K)
        Of scan-normalised signals, as `qspace_nd.diffusion.tensor.tissue_features` gives them, or
        `qspace_nd.imaging.stack.Stack.features` where there are no b-values.
    """

    points: Tensor
    features: Tensor

    def __getitem__(self, rows: slice) -> Located:
        return Located(self.points[rows], self.features[rows])


@dataclass(frozen=True)
class Background:
    """What is taken off a view of a person's voxels, by place, and what the rest is divided by.

    Attributes
    ----------
    field : Field (K)
    scale : (K,) array
    weights : tuple of K float, optional
        What each of the features counts for in the view `placed`; all alike where none are given.
    """

    field: Field
    scale: Float32
    weights: tuple[float, ...] = (1.0,)


PLACE_WEIGHT = 0.15
"""What a mm of place counts for in the view `placed`, in standard deviations of a feature."""


@dataclass(frozen=True)
class Noise:
    """Standard normal noise that samples are made of, the same for every voxel.

    Shared, so that the score of a voxel does not depend on the voxels that are scored with it.

    Attributes
    ----------
    z : (S, d)
        Of the samples z_i ~ q(x).
    x : (S, C)
        Of the samples x_i ~ p(z_i).
    """

    z: Tensor
    x: Tensor

    @staticmethod
    def draw(seed: int, latents: int, channels: int) -> Noise:
        """Draw the noise of `SAMPLES` samples."""
        generator = torch.Generator().manual_seed(seed)
        z = torch.randn(SAMPLES, latents, generator=generator)
        return Noise(z, torch.randn(SAMPLES, channels, generator=generator))


class Views:
    """The views of n voxels, each computed once, when it is first looked at.

    Parameters
    ----------
    network : VAE
        The trained network.
    x : (n, C)
        The signals.
    q : Gaussian (n, d), optional
        Their posteriors, where they are known.
    seed : int
        Of the samples' noise.
    located : Located, optional
        Where they lie, where that is known.
    """

    backgrounds: Mapping[str, Background] = {}
    """What `less` takes off, by the name of the view."""

    def __init__(
        self,
        network: VAE,
        x: Tensor,
        q: Gaussian[Tensor] | None = None,
        seed: int = 0,
        located: Located | None = None,
    ) -> None:
        self.network = network
        self.x = x
        self.seed = seed
        if q is not None:
            self.q = q
        if located is not None:
            self.located = located

    @property
    def is_located(self) -> bool:
        """Whether it is known where the voxels lie."""
        return hasattr(self, "located")

    @property
    def has_signals(self) -> bool:
        """Whether `x` is known."""
        return True

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Views:
        q = self.q[rows] if "q" in vars(self) else None  # else computed when it is looked at
        located = self.located[rows] if self.is_located else None
        return Views(self.network, self.x[rows], q, self.seed, located).less(self.backgrounds)

    def less(self, backgrounds: Mapping[str, Background]) -> Self:
        """The same voxels, of which these backgrounds are taken off where it is asked for."""
        if not backgrounds:
            return self
        views = copy.copy(self)
        views.backgrounds = {**self.backgrounds, **backgrounds}
        return views

    @cached_property
    def q(self) -> Gaussian[Tensor]:
        """Posteriors q(z|x) of the signals: (n, d)."""
        network = self.network
        return apply_in_blocks(network.encode, self.x, network.device, network.block)

    @property
    def q_bar(self) -> Tensor:
        """Means of the posteriors: (n, d)."""
        return self.q.mean

    @cached_property
    def p(self) -> Gaussian[Tensor]:
        """Likelihoods p(x|z) at the means of the posteriors: (n, C)."""
        return self.decode(self.q_bar)

    @property
    def p_bar(self) -> Tensor:
        """Means of the likelihoods: (n, C)."""
        return self.p.mean

    @property
    def features(self) -> Tensor:
        """What the tissue is like: (n, K)."""
        return self.located.features

    @property
    def placed(self) -> Tensor:
        """Features less their background, in standard deviations, and the place: (n, K + 3)."""
        weighted = torch.tensor(self.backgrounds["features"].weights) * self.rest("features")
        return torch.cat([weighted, PLACE_WEIGHT * self.located.points], dim=1)

    def rest(self, view: PointView) -> Tensor:
        """What is left of a view (n, K) when its background is off, by its scale."""
        own, points = self.backgrounds[view], self.located.points.numpy()
        rest = (self.point(view).numpy() - own.field.at(points)) / own.scale
        return torch.from_numpy(rest)

    def point(self, view: PointView) -> Tensor:
        """The voxels as points: (n, C), or (n, d) for `q_bar`."""
        points: Tensor = getattr(self, view)
        return points

    def gaussian(self, view: GaussianView) -> Gaussian[Tensor]:
        """The voxels as Gaussians: (n, C), or (n, d) for `q`."""
        gaussians: Gaussian[Tensor] = getattr(self, view)
        return gaussians

    def check(self, view: View) -> None:
        """Look at what a view is made of, where it lies on the disk, for damage.

        Here nothing does; `qspace_nd.model.part_file` has the views that do.
        """

    def decode(self, z: Tensor) -> Gaussian[Tensor]:
        """Likelihoods p(x|z) at latents `z` (n, d): (n, C)."""
        network = self.network
        return apply_in_blocks(network.decode, z, network.device, network.block)

    @cached_property
    def noise(self) -> Noise:
        """The noise of the voxels' samples."""
        return Noise.draw(self.seed, self.network.latents, self.network.channels)
