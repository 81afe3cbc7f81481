"""The closest sample that the decoder can generate: an optimiser for each voxel by itself.

Levenberg-Marquardt with the decoder's own derivatives: each voxel has its own damping, accepts
its own steps and stops by itself, so that its result does not depend on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qspace_nd.arrays import Float64
from qspace_nd.gaussian import Gaussian
from qspace_nd.network.vae import ACTIVATIONS, VAE
from qspace_nd.scores.base import Cost, Score
from qspace_nd.scores.measures import euclidean, negative_log_likelihood
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Views
from qspace_nd.system.threads import workers

_ROWS = 256  # voxels of a step at most: always as many, the last block filled up
_SHARE = 4096  # voxels that a thread works through at a time
_MOST_STEPS = 100
_LITTLE = 1e-8  # part of a number that the rounding of float32 hides
_FIRST_DAMPING, _MOST_DAMPING = 1e-3, 1e9


class Output(NamedTuple):
    """The decoder's Gaussian at n latents, and how it changes with them."""

    p: Gaussian[Tensor]  # (n, C)
    mean_slopes: Tensor  # (n, d, C): derivatives of the means
    log_std_slopes: Tensor  # (n, d, C): derivatives of the logarithms of the standard deviations


class Expansion(NamedTuple):
    """How an objective changes about n latents, to second order."""

    gradient: Tensor  # (n, d)
    curvature: Tensor  # (n, d, d), positive semi-definite


@dataclass(frozen=True)
class Objective:
    """What is least at the closest generated sample.

    Attributes
    ----------
    distance : callable
        How far voxels (n, C) are from Gaussians (n, C): (n,).
    value : callable
        Something smooth that grows with it, of the same: (n,) of float64.
    expand : callable
        How that changes, for voxels (n, C), about the decoder's output.
    little : callable
        What rounding hides of such values (n,), of voxels (n, C): (n,).
    """

    distance: Callable[[Gaussian[Tensor], Tensor], Float64]
    value: Callable[[Gaussian[Tensor], Tensor], Tensor]
    expand: Callable[[Output, Tensor], Expansion]
    little: Callable[[Tensor, Tensor], Tensor]


def _half_squared_error(p: Gaussian[Tensor], x: Tensor) -> Tensor:
    """½ |x - pm(z)|²."""
    return 0.5 * ((p.mean - x).double() ** 2).sum(-1)


def _little_error(value: Tensor, x: Tensor) -> Tensor:
    """Of ½ |x - pm(z)|²: what a small part of x changes it by."""
    return _LITTLE * (2.0 * value * (x.double() ** 2).sum(-1)).sqrt()


def _expand_error(output: Output, x: Tensor) -> Expansion:
    """Of ½ |x - pm(z)|²; its curvature by Gauss and Newton."""
    slopes = output.mean_slopes
    residual = output.p.mean - x
    return Expansion(
        torch.bmm(slopes, residual[:, :, None])[:, :, 0].double(),
        torch.bmm(slopes, slopes.mT).double(),
    )


def _log_likelihood_lost(p: Gaussian[Tensor], x: Tensor) -> Tensor:
    """-log p(z)[x] but for its constant: with e = (pm(z) - x) / s(z), sum_i ½ e_i² + ln s_i."""
    error = (p.mean - x) / p.std
    return (0.5 * error.double() ** 2 + p.std.double().log()).sum(-1)


def _little_likelihood(value: Tensor, x: Tensor) -> Tensor:
    """Of -log p(z)[x]: a small part of it, and of one nat at least."""
    return _LITTLE * value.abs().clamp(min=1.0)


def _expand_likelihood(output: Output, x: Tensor) -> Expansion:
    """Of -log p(z)[x].

    The curvature is Fisher's, but for outliers: the second derivative by ln s_i is 2 e_i², whose
    expectation is 2; the larger of both is taken.
    """
    residual = (output.p.mean - x) / output.p.std
    mean_slopes = output.mean_slopes / output.p.std[:, None]
    log_std_slopes = output.log_std_slopes
    weight = (2.0 * (residual**2).clamp(min=1.0)).sqrt()
    slopes = torch.cat([mean_slopes, log_std_slopes * weight[:, None]], 2)
    gradient = torch.bmm(mean_slopes, residual[:, :, None]) + torch.bmm(
        log_std_slopes, (1.0 - residual**2)[:, :, None]
    )
    return Expansion(gradient[:, :, 0].double(), torch.bmm(slopes, slopes.mT).double())


def _error(p: Gaussian[Tensor], x: Tensor) -> Float64:
    return euclidean(p.mean, x)


ERROR = Objective(_error, _half_squared_error, _expand_error, _little_error)
"""|x - pm(z)|."""

LIKELIHOOD = Objective(
    negative_log_likelihood, _log_likelihood_lost, _expand_likelihood, _little_likelihood
)
"""-log p(z)[x]."""


@dataclass(frozen=True)
class Generated(Score):
    """How far a voxel is from the closest that the decoder generates.

    Searches are local. There are two: from qm(x), and from 0, the mean of the prior.

    Attributes
    ----------
    objective : Objective
        What is least there: `ERROR` or `LIKELIHOOD`.
    boxes : tuple of float
        The latents searched are in [-b, b]. Boxes are searched one after the other, each larger
        than the last from where that one ended: so what is found in all latents is never farther
        than what is found in the paper's box.
    """

    objective: Objective
    boxes: tuple[float, ...]
    cost = Cost.DEAR

    def __call__(self, voxels: Views, healthy: Reference) -> Float64:
        """Search: (n,)."""
        largest = self.boxes[-1]
        # The start counts too: a search decodes in blocks of its own, and rounds differently.
        ends = [voxels.q_bar.clamp(-largest, largest)]
        for z in (voxels.q_bar, torch.zeros_like(voxels.q_bar)):
            for box in self.boxes:
                z = closest_latents(voxels.network, voxels.x, z, self.objective, box)
                ends.append(z)
        distances = [self.objective.distance(voxels.decode(end), voxels.x) for end in ends]
        return np.asarray(np.minimum.reduce(distances))


@torch.no_grad()
def closest_latents(
    network: VAE, x: Tensor, start: Tensor, objective: Objective, bound: float
) -> Tensor:
    """Latents at which the decoder's output is closest to voxels, each in [-bound, bound].

    The search is local; it never ends higher than at the start.

    Parameters
    ----------
    network : VAE
        Its decoder.
    x : (n, C)
        The voxels.
    start : (n, d)
        Where to begin; what is out of bounds is moved to the nearest bound.
    objective : Objective
        What shall be least.
    bound : float
        May be infinite.

    Returns
    -------
    (n, d)
        The latents.
    """
    search = _Search(network, objective, bound)
    with workers() as pool:
        return torch.cat(list(pool.map(search, x.split(_SHARE), start.split(_SHARE))))


def decode_with_slopes(network: VAE, z: Tensor) -> Output:
    """Decode latents `z` (n, d) with the derivatives of what is decoded: forward differentiation.

    Every latent's tangent passes through the layers beside the value. (That of `torch.func` is not
    for several threads.)
    """
    tangents = torch.eye(z.shape[1], device=z.device).expand(len(z), -1, -1)  # (n, d, width)
    values = z
    for layer in network.decoder:
        if isinstance(layer, tuple(ACTIVATIONS.values())):
            values, slopes = _apply_elementwise(layer, values)
            tangents = tangents * slopes[:, None]
        else:
            values, tangents = layer(values), _apply_linear_part(layer, tangents)
    mean_slopes, log_std_slopes = tangents.chunk(2, dim=-1)
    p = network.likelihood(values)
    rising = 1.0 - network.std_floor * network.scale / p.std  # its share that is not the floor
    return Output(p, mean_slopes * network.scale, log_std_slopes * rising[:, None])


def _apply_linear_part(layer: nn.Module, tangents: Tensor) -> Tensor:
    """What a layer makes of tangents (n, d, ...): its constant plays no part."""
    if isinstance(layer, nn.Linear):
        return functional.linear(tangents, layer.weight)
    rows = tangents.flatten(0, 1)
    if isinstance(layer, nn.ConvTranspose2d):
        padding: tuple[int, ...] = layer.padding  # type: ignore[assignment]
        rows = functional.conv_transpose2d(
            rows, layer.weight, None, layer.stride, padding, layer.output_padding
        )
    else:  # another shape of the same numbers
        rows = layer(rows)
    return rows.view(*tangents.shape[:2], *rows.shape[1:])


def _apply_elementwise(layer: nn.Module, values: Tensor) -> tuple[Tensor, Tensor]:
    """Values of an activation, and its derivatives."""
    with torch.enable_grad():
        inputs = values.detach().requires_grad_()
        outputs = layer(inputs)
        (slopes,) = torch.autograd.grad(outputs, inputs, torch.ones_like(outputs))
    return outputs.detach(), slopes


@dataclass(frozen=True)
class _Search:
    """The searches of some voxels."""

    network: VAE
    objective: Objective
    bound: float

    @torch.no_grad()
    def __call__(self, x: Tensor, start: Tensor) -> Tensor:
        """Search for voxels `x` (n, C) from `start` (n, d): latents (n, d)."""
        z = start.clamp(-self.bound, self.bound)
        (value,) = self._in_blocks(self._value, z, x)
        gradient, curvature = self._in_blocks(self._expand, z, x)
        damping = torch.full_like(value, _FIRST_DAMPING)
        going = value.isfinite().nonzero()[:, 0]
        for _ in range(_MOST_STEPS):
            if not len(going):
                break
            old = [part[going] for part in (z, gradient, curvature, damping)]
            trial, promised = self._in_blocks(self._propose, *old)
            (there,) = self._in_blocks(self._value, trial, x[going])
            gain = value[going] - there
            down = gain > 0.0
            z[going[down]], value[going[down]] = trial[down], there[down]
            little = self.objective.little(value[going], x[going])
            change = torch.where(down, torch.where(gain > 0.5 * promised, 0.1, 1.0), 8.0)
            damping[going] = (change * damping[going]).clamp(min=1e-9)
            ended = (down & (gain <= little)) | (promised <= little)
            ended |= damping[going] > _MOST_DAMPING
            moved = going[down & ~ended]
            if len(moved):
                gradient[moved], curvature[moved] = self._in_blocks(
                    self._expand, z[moved], x[moved]
                )
            going = going[~ended]
        return z

    def _in_blocks(
        self, compute: Callable[..., tuple[Tensor, ...]], *parts: Tensor
    ) -> tuple[Tensor, ...]:
        """Apply `compute` to blocks of all `parts` (n, ...), of one size for equal rounding."""
        size = min(_ROWS, self.network.block)
        blocks = [
            [new[: len(block[0])] for new in compute(*(_fill_up(part, size) for part in block))]
            for block in zip(*(part.split(size) for part in parts), strict=True)
        ]
        return tuple(map(torch.cat, zip(*blocks, strict=True)))

    def _value(self, z: Tensor, x: Tensor) -> tuple[Tensor]:
        device = self.network.device
        return (self.objective.value(self.network.decode(z.to(device)), x.to(device)).cpu(),)

    def _expand(self, z: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        device = self.network.device
        output = decode_with_slopes(self.network, z.to(device))
        return tuple(part.cpu() for part in self.objective.expand(output, x.to(device)))

    def _propose(
        self, z: Tensor, gradient: Tensor, curvature: Tensor, damping: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return where a damped step leads (n, d), and the gain that it promises (n,).

        Latents at a bound that would leave it stay (Kanzow et al., "Levenberg-Marquardt methods
        with strong local convergence properties for solving nonlinear equations with convex
        constraints", 2004).
        """
        stuck = ((z >= self.bound) & (gradient < 0.0)) | ((z <= -self.bound) & (gradient > 0.0))
        gradient = gradient.masked_fill(stuck, 0.0)
        curvature = curvature.masked_fill(stuck[:, :, None] | stuck[:, None, :], 0.0)
        diagonal = curvature.diagonal(dim1=1, dim2=2)
        # A latent that changes nothing has no curvature of its own, but must not divide by zero.
        scale = diagonal + 1e-6 * diagonal.amax(1, keepdim=True) + 1e-12
        factor, _ = torch.linalg.cholesky_ex(curvature + torch.diag_embed(damping[:, None] * scale))
        step = -torch.cholesky_solve(gradient[:, :, None], factor)[:, :, 0]
        curving = torch.bmm(curvature, step[:, :, None])[:, :, 0]
        promised = -(step * (gradient + 0.5 * curving)).sum(1)
        return (z + step.to(z.dtype)).clamp(-self.bound, self.bound), promised


def _fill_up(rows: Tensor, size: int) -> Tensor:
    """Repeat the last row until there are `size`."""
    return torch.cat([rows, rows[-1:].expand(size - len(rows), *rows.shape[1:])])
