"""How networks are trained: the recipes by name, of vectors and of images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

PAPER_HIDDEN = {8: (64, 32, 16), 16: (128, 64, 32), 24: (128, 64, 48)}
"""Widths of the hidden layers for each number of latents in the paper (section 3.1)."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, and how many neighbours novelty is told by.

    Attributes
    ----------
    hidden : tuple of int, or a mapping of the number of latents to one
        Widths of the encoder's hidden layers.
    kl_weight : float
        Weight of the Kullback-Leibler term of the objective; 1 is the evidence lower bound.
    batch_size : int
        Voxels of a step.
    rate : float
        Learning rate of Adam; the highest one where `one_cycle` is set.
    steps : int
        The most steps that training takes.
    check_every : int
        Steps between two looks at the validation loss.
    patience : int or None
        Looks without a better validation loss after which training ends; None for never.
    one_cycle : bool
        Raise the rate to `rate` and lower it to nearly 0 over the budget of steps
        (Smith & Topin, arXiv 1708.07120), rather than keep it constant.
    standardise : bool
        Standardise the channels inside the network.
    activation : str
        The networks' non-linearity.
    gradient_norm : float
        Norm that gradients are clipped to; `inf` for no clipping.
    gain_jitter : float
        Standard deviation of the logarithm of a random gain, another for each voxel of a batch. A
        scan of another person lies a little beside the training scans, and lesions more so: a
        network that has seen gains around those of the training scans places both smoothly.
    neighbours : int
        The nearest healthy voxels that distances to the nearest are the mean to.
    """

    hidden: Mapping[int, tuple[int, ...]] | tuple[int, ...]
    kl_weight: float
    batch_size: int
    rate: float
    steps: int
    check_every: int
    patience: int | None
    one_cycle: bool
    standardise: bool
    activation: str
    gradient_norm: float
    gain_jitter: float
    neighbours: int


PRESETS = {
    "default": Recipe(
        hidden=(256, 128, 64),
        kl_weight=0.01,
        batch_size=1024,
        rate=4e-3,
        steps=3000,
        check_every=100,
        patience=None,
        one_cycle=True,
        standardise=True,
        activation="silu",
        gradient_norm=100.0,
        gain_jitter=0.1,
        neighbours=10,
    ),
    "paper": Recipe(
        hidden=PAPER_HIDDEN,
        kl_weight=1.0,
        batch_size=32_768,
        rate=1e-3,
        steps=5000,
        check_every=25,
        patience=20,
        one_cycle=False,
        standardise=False,
        activation="relu",
        gradient_norm=math.inf,
        gain_jitter=0.0,
        neighbours=1,
    ),
}
"""The recipes by name; "paper" is that of Vasilev et al., section 3.1."""

IMAGE_PRESETS = {
    "default": Recipe(
        hidden=(8, 16, 32),
        kl_weight=0.1,
        batch_size=128,
        rate=3e-3,
        steps=1000,
        check_every=100,
        patience=None,
        one_cycle=True,
        standardise=True,
        activation="relu",
        gradient_norm=100.0,
        gain_jitter=0.0,
        neighbours=1,
    ),
    "paper": Recipe(
        hidden=(8, 16, 32),
        kl_weight=1.0,
        batch_size=64,
        rate=1e-5,
        steps=200_000,
        check_every=1000,
        patience=20,
        one_cycle=False,
        standardise=True,
        activation="relu",
        gradient_norm=math.inf,
        gain_jitter=0.0,
        neighbours=1,
    ),
}
"""The recipes for images, `hidden` being numbers of filters.

"paper" has its optimiser, batches and rate; the numbers of filters and of steps are ours.
"""
