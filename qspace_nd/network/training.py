"""Fitting the VAE: the two recipes, early stopping, what is reported."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import repeat
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from qspace_nd.errors import WorkError
from qspace_nd.network.objective import Found, objective, slopes
from qspace_nd.network.vae import PAPER_HIDDEN, VAE, VectorVAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.system.threads import workers

ALIVE = 0.01
"""Least variance of a latent's posterior mean over the data for the latent to count as alive.

Burda, Grosse & Salakhutdinov, "Importance Weighted Autoencoders" (arXiv 1509.00519), section 5.2.
"""

VALIDATION_ROWS = 65_536
"""Rows that the loss is looked at on: enough for three digits, few enough to cost little."""

STANDARDISED_ROWS = 1_000_000
"""Likewise, for the channels' shifts and scales."""

PARTS, LEAST_PART = 8, 512
"""Parts of a batch whose slopes are found on a thread each, and the fewest rows of one."""


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


@dataclass(frozen=True)
class History:
    """What training showed.

    Attributes
    ----------
    steps : int
        Steps taken.
    best_step : int
        Step whose weights were kept, the one of least validation loss.
    losses : list of (step, training loss, validation loss)
        Nats per voxel, one entry a look; the training loss is the mean since the look before.
    latent_kl : list of float, length d
        Kullback-Leibler divergence of each latent on the validation voxels, in nats.
    latents_alive : int
        Latents whose posterior mean has a variance above `ALIVE`.
    """

    steps: int
    best_step: int
    losses: list[tuple[int, float, float]]
    latent_kl: list[float]
    latents_alive: int

    def to_json(self) -> dict[str, Any]:
        """Return the history as plain data."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> History:
        """Read what `to_json` returned."""
        losses = [(int(step), float(a), float(b)) for step, a, b in data["losses"]]
        return History(**(data | {"losses": losses}))

    @property
    def validation_loss(self) -> float:
        """The least validation loss, in nats per voxel."""
        return min(validation for _, _, validation in self.losses)

    @property
    def late_fall(self) -> float:
        """Share of the fall of the validation loss that the last tenth of training brought.

        A share, because a nat is much or little by the channels' number and noise.
        """
        late = [validation for step, _, validation in self.losses if step > 0.9 * self.steps]
        before = [validation for step, _, validation in self.losses if step <= 0.9 * self.steps]
        if not late or not before or min(late) >= min(before):
            return 0.0
        return (min(before) - min(late)) / (before[0] - min(late))

    @property
    def still_falling(self) -> bool:
        """Whether the last tenth of training brought over 1 % of the fall."""
        return self.late_fall > 0.01


def train(
    network: VAE,
    x: Tensor,
    training: Tensor,
    validation: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress = SILENT,
) -> History:
    """Train `network` on the rows `training` of voxels `x` (n, C); keep the best weights.

    The best weights are those of least loss on the rows `validation`; both are index tensors.

    The objective is that of Kingma & Welling (arXiv 1312.6114), equation 10, with one sample a
    voxel and the Kullback-Leibler term weighted:  -log p(z)[x] + kl_weight KL(q(x)), z ~ q(x).

    Each part of a batch is computed on one thread, several at a time on as many as PyTorch may use,
    so that weights do not depend on their number.

    Raises
    ------
    WorkError
        The loss was never finite.
    """
    with workers() as pool:
        if network.standardised:
            network.standardise(x[_spread(training, STANDARDISED_ROWS)])
        find_slopes = _finder_of_slopes(network, recipe.kl_weight)
        with threadpool_limits(1, user_api="blas"):  # libraries that are loaded by now
            return _train(
                network, x, training, validation, recipe, seed, progress, pool, find_slopes
            )


def _train(
    network: VAE,
    x: Tensor,
    training: Tensor,
    validation: Tensor,
    recipe: Recipe,
    seed: int,
    progress: Progress,
    pool: Executor,
    find_slopes: _FindSlopes,
) -> History:
    device = x.device
    noise = torch.Generator(device).manual_seed(seed)
    held_out = x[_spread(validation, VALIDATION_ROWS)]
    held_out_noise = torch.randn(len(held_out), network.latents, generator=noise, device=device)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate, fused=True)
    schedule = (
        torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.rate, total_steps=recipe.steps, cycle_momentum=False
        )
        if recipe.one_cycle
        else None
    )

    def slopes_of(part: _Part) -> Found:
        return find_slopes(part.voxels(x), part.noise)

    best, best_step, best_weights = math.inf, 0, copy.deepcopy(network.state_dict())
    losses: list[tuple[int, float, float]] = []
    recent: list[Tensor] = []
    step = 0
    with progress.task("Training", recipe.steps) as task:
        batches = _batches(training, network.latents, recipe, noise)
        batch = next(batches)
        while True:
            # A batch of one part is not worth another thread.
            run: Callable[..., Iterator[Any]] = pool.map if len(batch) > 1 else map
            upcoming = run(next, [batches])
            found = run(slopes_of, batch)
            loss = _put_slopes(network, found, sum(len(part.rows) for part in batch))
            (batch,) = upcoming
            if math.isfinite(recipe.gradient_norm):
                torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.gradient_norm)
            optimiser.step()
            if schedule is not None:
                schedule.step()
            recent.append(loss)
            step += 1
            if step % recipe.check_every and step < recipe.steps:
                task.advance()
                continue
            loss_now = _validation_loss(network, held_out, held_out_noise, recipe.kl_weight, pool)
            losses.append((step, float(torch.stack(recent).mean()), loss_now))
            recent = []
            if loss_now < best:
                best, best_step, best_weights = loss_now, step, copy.deepcopy(network.state_dict())
            alive = _latents_alive(network, held_out, pool)
            task.advance(
                note=f"loss {losses[-1][1]:.2f}, validation {loss_now:.2f}, "
                f"latents alive {alive}/{network.latents}"
            )
            impatient = (
                recipe.patience is not None
                and step - best_step >= recipe.patience * recipe.check_every
            )
            diverged = math.isnan(losses[-1][1])  # the weights are NaN too, and stay so
            if step == recipe.steps or impatient or diverged:
                break
    if not math.isfinite(best):
        raise WorkError(
            "Training did not converge: the validation loss was never finite; look for extreme "
            "values in the healthy scans."
        )
    network.load_state_dict(best_weights)
    kl = pool.map(torch.no_grad()(lambda x: network.encode(x).kl()), held_out.split(network.block))
    return History(
        steps=step,
        best_step=best_step,
        losses=losses,
        latent_kl=[round(float(one), 6) for one in torch.cat(list(kl)).mean(0)],
        latents_alive=_latents_alive(network, held_out, pool),
    )


_FindSlopes = Callable[[Tensor, Tensor], Found]


def _finder_of_slopes(network: VAE, kl_weight: float) -> _FindSlopes:
    """What finds the slopes of a network's objective fastest where the network is."""
    if isinstance(network, VectorVAE) and network.device.type == "cpu":
        from qspace_nd.network.dense import DenseSlopes  # compiled code takes its time to import

        return DenseSlopes(network, kl_weight)
    return partial(slopes, network, kl_weight)


def _put_slopes(network: VAE, parts: Iterable[Found], rows: int) -> Tensor:
    """Put the mean over rows of the slopes into each weight's `grad`; return the objective's: ().

    Parts are added up in their order: to the last bit alike whatever threads they came from.
    """
    first, *others = parts
    total, of_weights = first
    for more, of_weights_too in others:
        total, of_weights = total + more, of_weights + of_weights_too
    weights = list(network.parameters())
    sizes = [weight.numel() for weight in weights]
    for weight, own in zip(weights, (of_weights / rows).split(sizes), strict=True):
        # In the weight's own layout: what is fused goes through both as they lie in memory.
        weight.grad = torch.empty_like(weight).copy_(own.view_as(weight))
    return total / rows


def _latents_alive(network: VAE, x: Tensor, pool: Executor) -> int:
    means = pool.map(torch.no_grad()(lambda x: network.encode(x).mean), x.split(network.block))
    return int((torch.cat(list(means)).var(0, correction=0) > ALIVE).sum())


def _spread(rows: Tensor, most: int) -> Tensor:
    """At most `most` of the `rows`, evenly spread."""
    return rows[:: math.ceil(len(rows) / most)]


@dataclass(frozen=True)
class _Part:
    """A part of a batch.

    Attributes
    ----------
    rows : (n,) tensor of int
        Which voxels.
    gain : (n, 1) tensor or None
        What they are multiplied by.
    noise : (n, d) tensor
        What they are sampled with.
    """

    rows: Tensor
    gain: Tensor | None
    noise: Tensor

    def voxels(self, x: Tensor) -> Tensor:
        """The part's voxels (n, C) of all, `x` (N, C)."""
        voxels = x.index_select(0, self.rows)
        return voxels if self.gain is None else voxels.mul_(self.gain)


def _validation_loss(
    network: VAE, x: Tensor, noise: Tensor, kl_weight: float, pool: Executor
) -> float:
    @torch.no_grad()
    def total(rows: Tensor, noise_of_rows: Tensor) -> float:
        return float(
            objective(network, rows, noise_of_rows, kl_weight).cpu().sum(dtype=torch.float64)
        )

    return sum(pool.map(total, x.split(network.block), noise.split(network.block))) / len(x)


def _batches(
    training: Tensor, latents: int, recipe: Recipe, generator: torch.Generator
) -> Iterator[list[_Part]]:
    """Random batches without end, each in parts: on a CPU, for its threads.

    Each epoch is a fresh permutation of the rows `training`; the ragged rest is dropped.
    """
    rows, device = len(training), training.device
    size = min(recipe.batch_size, rows)
    part = max(LEAST_PART, math.ceil(size / PARTS)) if device.type == "cpu" else size
    normal = partial(torch.randn, generator=generator, device=device)
    while True:
        order = torch.randperm(rows, generator=generator, device=device)
        for chosen in order[: rows - rows % size].split(size):
            gains: Iterable[Tensor | None] = repeat(None)
            if recipe.gain_jitter:
                gains = (recipe.gain_jitter * normal(size, 1)).exp().split(part)
            parts = training[chosen].split(part)
            noise = normal(size, latents).split(part)
            yield [_Part(*of) for of in zip(parts, gains, noise, strict=False)]
