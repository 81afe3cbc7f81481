"""The slopes of the objective of training for fully connected networks, in compiled code.

The networks of voxels are so narrow that products of matrices take less time than what else is done
to each number, and threads that wait for each other at every call more than that. Here a few rows
at a time, whose numbers stay in the fastest cache, pass through all layers and back without Python.
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
import torch

# Numba's products of matrices are those of SciPy, whose threads can be limited once it is loaded.
from scipy.linalg import cython_blas  # noqa: F401
from torch import Tensor, nn

from qspace_nd.arrays import Float32, Int64
from qspace_nd.network.objective import Found
from qspace_nd.network.vae import LOG_STD_LIMIT, VectorVAE
from qspace_nd.system.compiling import vectorised

_ROWS = 128  # that pass at a time
_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
_0, _HALF, _1 = np.float32(0.0), np.float32(0.5), np.float32(1.0)


class DenseSlopes:
    """Finds what `objective.slopes` does, faster, of a network of float32 on the CPU.

    Threads may share it. The products of matrices are those of SciPy's BLAS, on as many threads as
    that may use.

    Parameters
    ----------
    network : VectorVAE
        What is trained, standardised already. Its weights stay in their place in memory.
    kl_weight : float
        Weight of the objective's second term.
    """

    def __init__(self, network: VectorVAE, kl_weight: float) -> None:
        self._network, self._kl_weight = network, kl_weight
        self._weights = [weight.detach().view(-1) for weight in network.parameters()]
        self._own = threading.local()  # each thread's memory
        log_scale = float(network.scale.double().log().sum())
        constant = network.channels * _HALF_LOG_2_PI + log_scale
        self._constant = constant - 0.5 * kl_weight * network.latents

    @torch.no_grad()
    def __call__(self, x: Tensor, noise: Tensor) -> Found:
        """Find the slopes for rows `x` (n, C) and their noise (n, d)."""
        network, own = self._network, self._own
        if not hasattr(own, "weights"):
            own.weights = torch.cat(self._weights)
            own.memory = _memory(network.encoder), _memory(network.decoder)
        torch.cat(self._weights, out=own.weights)
        encoder, decoder = own.memory
        weights = own.weights.numpy()
        found = np.zeros_like(weights)
        target = network.standard(x)
        total = _add_slopes(
            network.inputs(target).numpy(),
            target.numpy(),
            noise.numpy(),
            encoder,
            decoder,
            weights,
            network.settings["activation"] == "silu",
            np.float32(LOG_STD_LIMIT),
            np.float32(network.std_floor),
            np.float32(self._kl_weight),
            found,
        )
        return torch.tensor(total + len(x) * self._constant), torch.from_numpy(found)


class _Layers(NamedTuple):
    """The layers of an encoder or of a decoder, and memory for `_ROWS` rows that pass."""

    widths: Int64  # (L + 1,), from the input on
    values: Float32  # what each layer returned, one after the other
    derivatives: Float32  # in the same places those of the activations


def _memory(side: nn.Sequential) -> _Layers:
    linear = [layer for layer in side if isinstance(layer, nn.Linear)]
    widths = np.array([linear[0].in_features, *(layer.out_features for layer in linear)])
    return _Layers(widths, *np.empty((2, _ROWS * widths[1:].sum()), np.float32))


@vectorised
def _add_slopes(
    inputs: Float32,
    target: Float32,
    noise: Float32,
    encoder: _Layers,
    decoder: _Layers,
    weights: Float32,
    silu: bool,
    limit: np.float32,
    floor: np.float32,
    kl_weight: np.float32,
    found: Float32,
) -> float:
    """Add the slopes of the objective, summed over n rows, to `found`; that, less what is fixed.

    Parameters
    ----------
    inputs, target : (n, C)
        What the encoder sees, and what the decoder shall return.
    noise : (n, d)
        What is sampled with.
    encoder, decoder
        The layers.
    weights : (P,)
        Of each layer of either, the matrix (m, k), row by row, and then the constants (m,).
    silu : bool
        Whether the activations are SiLU, not ReLU.
    limit, floor, kl_weight : float
        Of logarithms of standard deviations, of the decoder's standard deviations, and of the
        objective's second term.
    found : (P,)
        The slopes by the weights.
    """
    number = np.sum((encoder.widths[:-1] + 1) * encoder.widths[1:])  # of the encoder's weights
    turned = np.empty_like(weights)
    _turn(weights[:number], encoder.widths, turned[:number])
    _turn(weights[number:], decoder.widths, turned[number:])
    channels, latents = target.shape[1], noise.shape[1]
    std = np.empty((_ROWS, latents), np.float32)
    z = np.empty((_ROWS, latents), np.float32)
    of_posterior = np.empty((_ROWS, 2 * latents), np.float32)
    of_output = np.empty((_ROWS, 2 * channels), np.float32)
    widest = max(np.max(encoder.widths), np.max(decoder.widths))
    scratch = np.empty((2, _ROWS * widest), np.float32)
    product = np.empty(widest * widest, np.float32)
    total = 0.0
    for first in range(0, len(inputs), _ROWS):
        last = min(first + _ROWS, len(inputs))
        n, x, e = last - first, inputs[first:last], noise[first:last]
        posterior = _forward(x, encoder, turned[:number], silu)
        total += float(kl_weight) * _sample(posterior, e, limit, std, z)
        output = _forward(z[:n], decoder, turned[number:], silu)
        total += _misfit(output, target[first:last], limit, floor, of_output)
        of_z = _backward(
            z[:n], decoder, weights[number:], of_output[:n], True, found[number:], scratch, product
        )
        _sample_backward(posterior, e, std, of_z, limit, kl_weight, of_posterior)
        _backward(
            x, encoder, weights[:number], of_posterior[:n], False, found[:number], scratch, product
        )
    return total


@vectorised
def _turn(weights: Float32, widths: Int64, turned: Float32) -> None:
    """Put the weights of layers in their places with matrices (k, m) for (m, k)."""
    begin = 0
    for layer in range(len(widths) - 1):
        k, m = widths[layer], widths[layer + 1]
        end = begin + k * m
        before, after = weights[begin:end].reshape(m, k), turned[begin:end].reshape(k, m)
        for i in range(k):
            for j in range(m):
                after[i, j] = before[j, i]
        turned[end : end + m] = weights[end : end + m]
        begin = end + m


@vectorised
def _forward(x: Float32, layers: _Layers, turned: Float32, silu: bool) -> Float32:
    """Pass rows `x` (n, k) through layers, whose memory keeps what comes between: (n, m)."""
    n, begin, place = len(x), 0, 0
    last = len(layers.widths) - 2
    for layer in range(last + 1):
        k, m = layers.widths[layer], layers.widths[layer + 1]
        end, following = begin + k * m, place + n * m
        matrix, constants = turned[begin:end].reshape(k, m), turned[end : end + m]
        y = layers.values[place:following].reshape(n, m)
        derivatives = layers.derivatives[place:following].reshape(n, m)
        np.dot(x, matrix, y)
        if layer == last:
            _add(constants, y)
        elif silu:
            _silu(constants, y, derivatives)
        else:
            _relu(constants, y, derivatives)
        x, begin, place = y, end + m, following
    return x


@vectorised
def _backward(
    x: Float32,
    layers: _Layers,
    weights: Float32,
    of_y: Float32,
    to_input: bool,
    found: Float32,
    scratch: Float32,
    product: Float32,
) -> Float32:
    """Pass slopes by the output (n, m) of `_forward` back; add those by the weights to `found`.

    Returns the slopes by the rows (n, k), which are in the `scratch`; of no meaning where the way
    does not go `to_input`.
    """
    n = len(x)
    end, following = len(weights), n * np.sum(layers.widths[1:])
    last = len(layers.widths) - 2
    for layer in range(last, -1, -1):
        k, m = layers.widths[layer], layers.widths[layer + 1]
        middle, place = end - m, following - n * m
        begin = middle - k * m
        if layer < last:
            _multiply(layers.derivatives[place:following].reshape(n, m), of_y)
        _add_columns(of_y, found[middle:end])
        before = layers.values[place - n * k : place].reshape(n, k) if layer else x
        np.dot(of_y.T, before, product[: k * m].reshape(m, k))
        _add_to(found[begin:middle], product)
        if layer or to_input:
            of_x = scratch[layer % 2, : n * k].reshape(n, k)
            np.dot(of_y, weights[begin:middle].reshape(m, k), of_x)
            of_y = of_x
        end, following = begin, place
    return of_y


@vectorised
def _sample(
    posterior: Float32, noise: Float32, limit: np.float32, std: Float32, z: Float32
) -> float:
    """Put s and z = m + s noise in their places; the sum of (m² + s²) / 2 - log s.

    The posterior (n, 2 d) has the means m and the log s; all else is (n, d).
    """
    n, d = noise.shape
    total = 0.0
    for row in range(n):
        mean, log_std = posterior[row, :d], posterior[row, d:]
        of_row = _0
        for i in range(d):
            limited = min(max(log_std[i], -limit), limit)
            s = _exp(limited)
            std[row, i] = s
            z[row, i] = mean[i] + s * noise[row, i]
            of_row += _HALF * (mean[i] * mean[i] + s * s) - limited
        total += float(of_row)
    return total


@vectorised
def _sample_backward(
    posterior: Float32,
    noise: Float32,
    std: Float32,
    of_z: Float32,
    limit: np.float32,
    kl_weight: np.float32,
    slopes: Float32,
) -> None:
    """Put slopes by the posterior (n, 2 d) in their place.

    Where the slopes by z are u and the second term's weight is k, those by m and log s are

        u + k m    and    u s noise + k (s² - 1),

    the latter 0 where log s is beyond its limit.
    """
    n, d = noise.shape
    for row in range(n):
        of_mean, of_log_std = slopes[row, :d], slopes[row, d:]
        for i in range(d):
            u, s = of_z[row, i], std[row, i]
            of_mean[i] = u + kl_weight * posterior[row, i]
            slope = u * s * noise[row, i] + kl_weight * (s * s - _1)
            of_log_std[i] = slope if abs(posterior[row, d + i]) <= limit else _0


@vectorised
def _misfit(
    output: Float32, target: Float32, limit: np.float32, floor: np.float32, slopes: Float32
) -> float:
    """Put slopes by the output (n, 2 C) in their place; the sum of t² / 2 + log s.

    Here t = (m - target) / s and s = floor + e^l, where the output has the means m and the l. The
    slopes by m and l are

        t / s    and    (1 - t²) e^l / s,

    the latter 0 where l is beyond its limit.
    """
    n, channels = target.shape
    total = 0.0
    for row in range(n):
        mean, log_std = output[row, :channels], output[row, channels:]
        of_mean, of_log_std = slopes[row, :channels], slopes[row, channels:]
        goal = target[row]
        of_row = _0
        for i in range(channels):
            limited = min(max(log_std[i], -limit), limit)
            above = _exp(limited)
            s = floor + above
            precision = _1 / s
            t = (mean[i] - goal[i]) * precision
            of_mean[i] = t * precision
            slope = (_1 - t * t) * above * precision
            of_log_std[i] = slope if abs(log_std[i]) <= limit else _0
            of_row += _HALF * t * t + _log(s)
        total += float(of_row)
    return total


@vectorised
def _add(constants: Float32, y: Float32) -> None:
    for row in range(len(y)):
        values = y[row]
        for i in range(len(constants)):
            values[i] += constants[i]


@vectorised
def _add_to(sums: Float32, terms: Float32) -> None:
    for i in range(len(sums)):
        sums[i] += terms[i]


@vectorised
def _add_columns(y: Float32, sums: Float32) -> None:
    for row in range(len(y)):
        values = y[row]
        for i in range(len(sums)):
            sums[i] += values[i]


@vectorised
def _multiply(factors: Float32, y: Float32) -> None:
    for row in range(len(y)):
        values, factors_of_row = y[row], factors[row]
        for i in range(len(values)):
            values[i] *= factors_of_row[i]


@vectorised
def _relu(constants: Float32, y: Float32, slopes: Float32) -> None:
    """Turn y (n, m) into max(v, 0) of v = y + constants; put the derivatives in place."""
    for row in range(len(y)):
        values, slopes_of_row = y[row], slopes[row]
        for i in range(len(constants)):
            value = max(values[i] + constants[i], _0)
            values[i] = value
            slopes_of_row[i] = _1 if value > _0 else _0


@vectorised
def _silu(constants: Float32, y: Float32, slopes: Float32) -> None:
    """Turn y (n, m) into v / (1 + e^-v) of v = y + constants; put the derivatives in place."""
    for row in range(len(y)):
        values, slopes_of_row = y[row], slopes[row]
        for i in range(len(constants)):
            value = values[i] + constants[i]
            gate = _1 / (_1 + _exp(-value))
            values[i] = value * gate
            slopes_of_row[i] = gate + value * gate * (_1 - gate)


# No loop is vectorised around a call of the library's exp or log. These are the polynomials of the
# Cephes library (S. L. Moshier, https://netlib.org/cephes), within three units of the last place.

_MOST, _LOG2_E = np.float32(87.0), np.float32(math.log2(math.e))
_LN2, _ROOT_HALF = np.float32(math.log(2.0)), np.float32(math.sqrt(0.5))


@vectorised
def _exp(x: np.float32) -> np.float32:
    """e^x, and e^87 or e^-87 beyond them."""
    x = min(max(x, -_MOST), _MOST)
    power = np.floor(x * _LOG2_E + _HALF)
    r = x - power * _LN2
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + _HALF
    two_to_power = np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32((y * r * r + r + _1) * two_to_power)


@vectorised
def _log(x: np.float32) -> np.float32:
    """The natural logarithm of x > 0, which is no denormal number."""
    bits = np.float32(x).view(np.int32)
    # x = f 2^power, 1/2 <= f < 1; then the f below the root of 1/2 are doubled.
    power = np.int32((bits >> np.int32(23)) - np.int32(126))
    f = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F000000)).view(np.float32)
    low = f < _ROOT_HALF
    power = np.int32(power - np.int32(low))
    r = (f + f if low else f) - _1
    y = np.float32(7.0376836292e-2)
    y = y * r - np.float32(1.1514610310e-1)
    y = y * r + np.float32(1.1676998740e-1)
    y = y * r - np.float32(1.2420140846e-1)
    y = y * r + np.float32(1.4249322787e-1)
    y = y * r - np.float32(1.6668057665e-1)
    y = y * r + np.float32(2.0000714765e-1)
    y = y * r - np.float32(2.4999993993e-1)
    y = y * r + np.float32(3.3333331174e-1)
    return np.float32(r - _HALF * r * r + y * r * r * r + np.float32(power) * _LN2)
