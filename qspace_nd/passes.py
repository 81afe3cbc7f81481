"""Passing rows through the layers of an encoder or a decoder, and slopes back through them.

The last layer's output, (n, 2m), is the means and the logarithms of standard deviations of a
Gaussian, which are passed on apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

_aten: Any = torch.ops.aten  # where the derivatives of activations are


class Scratch:
    """Memory for arrays of n rows that are soon done with.

    Parameters
    ----------
    like : Tensor
        Of the type and on the device of the arrays.
    rows, widest : int
        The number n, and the most columns.
    """

    def __init__(self, like: Tensor, rows: int, widest: int) -> None:
        self._rows = rows
        self._halves = [like.new_empty(rows * widest) for _ in range(2)]

    def array(self, number: int, columns: int) -> Tensor:
        """Return an array (n, columns), in the place of all others of an even or odd number."""
        return self._halves[number % 2][: self._rows * columns].view(self._rows, columns)


class Pass(ABC):
    """Passes of rows through layers, and back."""

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and logarithms of standard deviations (n, m) of the rows `x` (n, k).

        They may be overwritten, and are by the next call.
        """

    @abstractmethod
    def backward(self, of_mean: Tensor, of_log_std: Tensor, weight: float) -> Tensor:
        """Add `weight` times the slopes by all of the layers' weights to their `grad`.

        Parameters
        ----------
        of_mean, of_log_std : (n, m)
            Slopes by what the last `forward` returned.
        weight : float
            A number above 0.

        Returns
        -------
        (n, k)
            The slopes by the input; of no meaning where the pass does not go back to it.
        """


class AutogradPass(Pass):
    """Passes through layers of any kind, back by PyTorch's automatic derivatives.

    Parameters
    ----------
    layers : nn.Sequential
        Of k inputs and 2 m outputs.
    to_input : bool
        Whether to go back to the input.
    """

    def __init__(self, layers: nn.Sequential, to_input: bool) -> None:
        self._layers, self._to_input = layers, to_input
        self._x = self._output = torch.empty(0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pass`."""
        self._x = x.detach().requires_grad_(self._to_input)
        with torch.enable_grad():
            self._output = self._layers(self._x)
        mean, log_std = (half.contiguous() for half in self._output.detach().chunk(2, dim=-1))
        return mean, log_std

    def backward(self, of_mean: Tensor, of_log_std: Tensor, weight: float) -> Tensor:
        """See `Pass`."""
        self._output.backward(torch.cat([of_mean, of_log_std], dim=-1).mul_(weight))
        return self._x if self._x.grad is None else self._x.grad / weight


class DensePass(Pass):
    """Passes of n rows through linear layers, an activation between any two, and back.

    The networks of voxels are so narrow that products of matrices take less time than what else is
    done to each number. Here a number is touched as rarely as can be, in place and side by side
    with its like, and memory is asked for once and used again while it is in the cache.

    Parameters
    ----------
    layers : nn.Sequential
        Of k inputs and 2 m outputs. Each weight has a `grad`; both stay in their place in memory.
    to_input : bool
        Whether to go back to the input.
    activation : str
        A key of `qspace_nd.vae.ACTIVATIONS`.
    rows : int
        The number n.
    scratch : Scratch
        For n rows of as many columns as the widest layer has inputs. Only `backward` uses it, its
        arguments are outside it, and its result is in it.
    """

    def __init__(
        self, layers: nn.Sequential, to_input: bool, activation: str, rows: int, scratch: Scratch
    ) -> None:
        self._to_input = to_input
        linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
        *hidden, last = linear
        ones = last.weight.detach().new_ones(rows)
        self._hidden = [_Product(ones, *_parameters(layer)) for layer in hidden]
        self._between = [
            _ACTIVATIONS[activation](ones.new_empty(rows, layer.out_features)) for layer in hidden
        ]
        halves = zip(*(parameter.chunk(2) for parameter in _parameters(last)), strict=True)
        self._mean, self._log_std = (_Product(ones, *half) for half in halves)
        self._outputs = [ones.new_empty(rows, last.out_features // 2) for _ in range(2)]
        self._of_inputs = [scratch.array(i, layer.in_features) for i, layer in enumerate(linear)]
        self._inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pass`."""
        self._inputs = [x]
        for product, activation in zip(self._hidden, self._between, strict=True):
            product.forward(self._inputs[-1], out=activation.before)
            self._inputs.append(activation.forward())
        mean, log_std = self._outputs
        self._mean.forward(self._inputs[-1], out=mean)
        self._log_std.forward(self._inputs[-1], out=log_std)
        return mean, log_std

    def backward(self, of_mean: Tensor, of_log_std: Tensor, weight: float) -> Tensor:
        """See `Pass`."""
        x, slopes = self._inputs[-1], self._of_inputs[-1]
        self._mean.add_slopes(x, of_mean, weight)
        self._log_std.add_slopes(x, of_log_std, weight)
        if self._hidden or self._to_input:
            self._mean.to_input(of_mean, out=slopes)
            self._log_std.add_to_input(of_log_std, out=slopes)
        for number in reversed(range(len(self._hidden))):
            self._between[number].backward(slopes)
            self._hidden[number].add_slopes(self._inputs[number], slopes, weight)
            if number or self._to_input:
                self._hidden[number].to_input(slopes, out=self._of_inputs[number])
            slopes = self._of_inputs[number]
        return slopes


class _Product:
    """x W' + b of rows x (n, k), W (m, k) and b (m,), and what its slopes (n, m) are of each."""

    def __init__(
        self, ones: Tensor, weight: Tensor, bias: Tensor, of_weight: Tensor, of_bias: Tensor
    ) -> None:
        self._weight, self._transposed, self._bias = weight, weight.T, bias
        self._of_weight, self._of_bias, self._ones = of_weight, of_bias, ones

    def forward(self, x: Tensor, out: Tensor) -> None:
        torch.mm(x, self._transposed, out=out).add_(self._bias)

    def add_slopes(self, x: Tensor, slopes: Tensor, weight: float) -> None:
        transposed = slopes.T
        self._of_weight.addmm_(transposed, x, alpha=weight)
        self._of_bias.addmv_(transposed, self._ones, alpha=weight)

    def to_input(self, slopes: Tensor, out: Tensor) -> None:
        torch.mm(slopes, self._weight, out=out)

    def add_to_input(self, slopes: Tensor, out: Tensor) -> None:
        out.addmm_(slopes, self._weight)


class _Activation(ABC):
    """What comes after a layer, whose output is in `before`."""

    def __init__(self, before: Tensor) -> None:
        self.before = before

    @abstractmethod
    def forward(self) -> Tensor:
        """Return the values of what is in `before`, which may be put in its place."""

    @abstractmethod
    def backward(self, slopes: Tensor) -> None:
        """Turn slopes by these values, in place, into slopes by what was in `before`."""


class _ReLU(_Activation):
    """max(x, 0), in its place: what is positive tells the slopes as well before as after."""

    def forward(self) -> Tensor:
        return self.before.relu_()

    def backward(self, slopes: Tensor) -> None:
        _aten.threshold_backward.grad_input(slopes, self.before, 0.0, grad_input=slopes)


class _SiLU(_Activation):
    """x / (1 + e^-x); its slopes are told by x, its values are what the next layer learns from."""

    def __init__(self, before: Tensor) -> None:
        super().__init__(before)
        self._after = torch.empty_like(before)

    def forward(self) -> Tensor:
        values: Tensor = _aten.silu.out(self.before, out=self._after)
        return values

    def backward(self, slopes: Tensor) -> None:
        _aten.silu_backward.grad_input(slopes, self.before, grad_input=slopes)


_ACTIVATIONS: dict[str, type[_Activation]] = {"silu": _SiLU, "relu": _ReLU}


def _parameters(layer: nn.Linear) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The weight and the bias of a layer, and their slopes, as plain arrays."""
    of_weight, of_bias = layer.weight.grad, layer.bias.grad
    assert of_weight is not None
    assert of_bias is not None
    return layer.weight.detach(), layer.bias.detach(), of_weight, of_bias
