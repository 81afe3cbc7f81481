"""Fitting the VAE by a recipe: its steps, and the looks at voxels that it does not learn from."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial, reduce
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from qspace_nd.errors import WorkError
from qspace_nd.gaussian import Gaussian
from qspace_nd.network.history import ALIVE, History
from qspace_nd.network.objective import objective, slopes
from qspace_nd.network.recipes import Recipe
from qspace_nd.network.vae import VAE
from qspace_nd.progress import SILENT, Progress
from qspace_nd.system.threads import workers

_log = logging.getLogger(__name__)

VALIDATION_ROWS = 65_536
"""Rows that the loss is looked at on: enough for three digits, few enough to cost little."""

STANDARDISED_ROWS = 1_000_000
"""Likewise, for the channels' shifts and scales."""

PARTS, LEAST_PART = 8, 512
"""Parts of a batch whose slopes are found on a thread each, and the fewest rows of one."""


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
        random = torch.Generator(x.device).manual_seed(seed)
        looks = _Looks(network, x[_spread(validation, VALIDATION_ROWS)], recipe, random, pool)
        batches = _batches(training, network.latents, recipe, random)
        losses = _steps(network, x, batches, recipe, pool)
        with progress.task("Training", recipe.steps) as task:
            for step, loss in enumerate(losses, start=1):
                task.advance(note=looks.after(step, loss))
                if looks.ended:
                    break
        return looks.history()


def _steps(
    network: VAE, x: Tensor, batches: Iterator[list[_Part]], recipe: Recipe, pool: Executor
) -> Iterator[Tensor]:
    """Take a step with each of the `batches` of voxels `x` (N, C); their mean objectives: ().

    While the slopes of one batch are found, the next is drawn.
    """
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.rate, fused=True)
    adjust_rate = _rate_schedule(optimiser, recipe)

    def slopes_of(part: _Part) -> tuple[Tensor, ...]:
        return slopes(network, recipe.kl_weight, part.voxels(x), part.noise)

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
        adjust_rate()
        yield loss


def _rate_schedule(optimiser: torch.optim.Optimizer, recipe: Recipe) -> Callable[[], None]:
    """What is called after each step to set the learning rate of the next."""
    if not recipe.one_cycle:
        return lambda: None
    return torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.rate, total_steps=recipe.steps, cycle_momentum=False
    ).step


class _Looks:
    """Looks at a network on voxels that it does not learn from, which keep its best weights.

    Parameters
    ----------
    network : VAE
        What is trained.
    x : (n, C) tensor
        The voxels.
    recipe : Recipe
        When to look, and when to end.
    random : torch.Generator
        Where the noise comes from that the voxels are sampled with, at each look the same.
    pool : Executor
        The threads, which share the voxels.
    """

    def __init__(
        self, network: VAE, x: Tensor, recipe: Recipe, random: torch.Generator, pool: Executor
    ) -> None:
        self._network, self._x, self._recipe, self._pool = network, x, recipe, pool
        self._noise = torch.randn(len(x), network.latents, generator=random, device=x.device)
        self._best, self._best_step = math.inf, 0
        self._best_weights = copy.deepcopy(network.state_dict())
        self._losses: list[tuple[int, float, float]] = []
        self._since: list[Tensor] = []  # the losses of the steps since the last look

    def after(self, step: int, loss: Tensor) -> str:
        """Look after a step where the recipe says so; what a listener shall know, if anything."""
        self._since.append(loss)
        if step % self._recipe.check_every and step < self._recipe.steps:
            return ""
        training, validation = float(torch.stack(self._since).mean()), self._loss()
        self._losses.append((step, training, validation))
        self._since = []
        if validation < self._best:
            self._best, self._best_step = validation, step
            self._best_weights = copy.deepcopy(self._network.state_dict())
        alive = f"{self._alive()} of {self._network.latents}"
        _log.debug(
            f"Step {step}: loss {training:.2f}, on held-out voxels {validation:.2f} nats a voxel; "
            f"latents alive {alive}"
        )
        return f"{alive} latent dimensions in use"

    @property
    def ended(self) -> bool:
        """Whether there is nothing to gain, or no step left, after the last look."""
        if not self._losses:
            return False
        step, training, _ = self._losses[-1]
        recipe = self._recipe
        impatient = (
            recipe.patience is not None
            and step - self._best_step >= recipe.patience * recipe.check_every
        )
        diverged = math.isnan(training)  # the weights are NaN too, and stay so
        return step == recipe.steps or impatient or diverged

    def history(self) -> History:
        """Give the network its best weights, and return what was seen.

        Raises
        ------
        WorkError
            The loss was never finite.
        """
        if not math.isfinite(self._best):
            raise WorkError(
                "Training did not converge: the validation loss was never finite; look for extreme "
                "values in the healthy scans."
            )
        self._network.load_state_dict(self._best_weights)
        return History(
            steps=self._losses[-1][0],
            best_step=self._best_step,
            losses=self._losses,
            latent_kl=[round(float(one), 6) for one in self._posterior(Gaussian.kl).mean(0)],
            latents_alive=self._alive(),
        )

    def _loss(self) -> float:
        """The mean objective."""
        network, kl_weight = self._network, self._recipe.kl_weight

        @torch.no_grad()
        def total(x: Tensor, noise: Tensor) -> float:
            return float(objective(network, x, noise, kl_weight).cpu().sum(dtype=torch.float64))

        blocks = self._x.split(network.block), self._noise.split(network.block)
        return sum(self._pool.map(total, *blocks)) / len(self._x)

    def _alive(self) -> int:
        """How many latents tell the voxels apart."""
        means = self._posterior(lambda posterior: posterior.mean)
        return int((means.var(0, correction=0) > ALIVE).sum())

    def _posterior(self, measure: Callable[[Gaussian[Tensor]], Tensor]) -> Tensor:
        """A measure (n, d) of the voxels' posteriors."""

        @torch.no_grad()
        def of(x: Tensor) -> Tensor:
            return measure(self._network.encode(x))

        return torch.cat(list(self._pool.map(of, self._x.split(self._network.block))))


def _put_slopes(network: VAE, parts: Iterable[tuple[Tensor, ...]], rows: int) -> Tensor:
    """Put the mean over rows of the slopes into each weight's `grad`; return the objective's: ().

    Parts are added up in their order: to the last bit alike whatever threads they came from.
    """
    total: Tensor
    total, *of_weights = (reduce(torch.add, one) / rows for one in zip(*parts, strict=True))
    for weight, own in zip(network.parameters(), of_weights, strict=True):
        # In the weight's own layout: what is fused goes through both as they lie in memory.
        weight.grad = torch.empty_like(weight).copy_(own)
    return total


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
