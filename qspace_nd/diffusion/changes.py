"""Changes of tissue, stated: which way disease moves T2, the diffusivity and the anisotropy.

A score that is told a change looks for it; it is no label, but it is knowledge of the disease.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.tensor import dipy_table
from qspace_nd.errors import InputError

_LEAST_DIFFUSIVITY = 0.05e-3  # mm²/s
_CHUNK = 16_384  # voxels altered at once


@dataclass(frozen=True)
class Change:
    """A change of tissue.

    Attributes
    ----------
    name : str
        How it was asked for.
    t2, md : float
        What is added to the logarithm of the signal at b=0, as a longer T2 does, and to that of
        the diffusivity in every direction.
    fa : float
        The share of the difference between the tensor's eigenvalues that is added: -0.3 takes 30 %
        of it away.
    source : str
        Where that is reported.
    """

    name: str
    t2: float = 0.0
    md: float = 0.0
    fa: float = 0.0
    source: str = ""

    def describe(self) -> str:
        """Say it in words: `longer T2, higher diffusivity, lower anisotropy`."""
        words = (
            (self.t2, "longer T2", "shorter T2"),
            (self.md, "higher diffusivity", "lower diffusivity"),
            (self.fa, "higher anisotropy", "lower anisotropy"),
        )
        return ", ".join(more if size > 0 else less for size, more, less in words if size)


SIZES: Mapping[str, float] = MappingProxyType({"t2": 0.2, "md": 0.25, "fa": 0.35})
"""What a component that is asked for by its sign alone amounts to."""

CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        change.name: change
        for change in (
            Change("demyelination", 0.2, 0.25, -0.35, "Schmierer et al., Ann Neurol 56:407, 2004"),
            Change("oedema", 0.4, 0.45, -0.25, "Tropine et al., J Magn Reson Imaging 20:905, 2004"),
            Change("restricted", 0.0, -0.45, 0.0, "Schaefer et al., Radiology 217:331, 2000"),
            Change("axonal-loss", 0.0, 0.1, -0.35, "Beaulieu, NMR Biomed 15:435, 2002"),
        )
    }
)
"""The changes that have a name."""


def find_change(text: str) -> Change:
    """Return the change of a name, or that of components such as `t2=+,md=+,fa=-`.

    Raises
    ------
    InputError
        It is neither.
    """
    if text in CHANGES:
        return CHANGES[text]
    if "=" not in text:
        close = get_close_matches(text, CHANGES, 1)
        meant = f"did you mean {close[0]}? The" if close else "the"
        raise InputError(
            f"There is no change {text!r}; {meant} changes are {', '.join(CHANGES)}, or components "
            f"as in t2=+,md=+,fa=-."
        )
    components: dict[str, float] = {}
    for part, name, sign in components_of(text):
        if name not in SIZES or sign not in ("+", "-") or name in components:
            raise InputError(
                f"{text!r} is no change: {part!r} is not one of t2, md and fa, each once, "
                f"with = and + or -; write t2=+,md=+,fa=-, or one of {', '.join(CHANGES)}."
            )
        components[name] = SIZES[name] if sign == "+" else -SIZES[name]
    return Change(
        text, components.get("t2", 0.0), components.get("md", 0.0), components.get("fa", 0.0)
    )


def components_of(text: str) -> Iterator[tuple[str, str, str]]:
    """Take a change such as `t2=+,md=-` apart: each component as it stands, its name, its sign."""
    for part in text.split(","):
        name, _, sign = (word.strip() for word in part.partition("="))
        yield part.strip(), name, sign


@dataclass(frozen=True, eq=False)
class Alteration:
    """Signals changed as stated.

    Attributes
    ----------
    change : Change
    table : GradientTable
        Of the C channels; `tensor.has_tensor`.
    means : (C,) array
        What the channels were divided by.
    """

    change: Change
    table: GradientTable
    means: Float32

    def describe(self) -> str:
        """Say the change in words."""
        return self.change.describe()

    def __call__(self, x: Float32) -> Float32:
        """Signals (n, C) with the change.

        A tensor is fitted to each voxel and its prediction changed: the signal moves by the
        difference, so that what the tensor does not describe stays as it is.
        """
        return np.concatenate(
            [self._altered(x[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK)]
        )

    def _altered(self, x: Float32) -> Float32:
        from dipy.reconst.dti import TensorModel, tensor_prediction

        signals, gradients = x * self.means, dipy_table(self.table)
        least = 1e-3 * float(signals.mean())
        model = TensorModel(gradients, fit_method="OLS", return_S0_hat=True, min_signal=least)
        fit = model.fit(signals)
        before, after = fit.model_params, fit.model_params.copy()
        values = np.maximum(before[:, :3], _LEAST_DIFFUSIVITY)
        mean = values.mean(axis=1, keepdims=True)
        values = mean + (1 + self.change.fa) * (values - mean)
        after[:, :3] = np.maximum(values * np.exp(self.change.md), _LEAST_DIFFUSIVITY)
        s0 = fit.S0_hat
        moved = tensor_prediction(after, gradients, s0 * np.exp(self.change.t2))
        moved -= tensor_prediction(before, gradients, s0)
        return np.asarray((signals + moved) / self.means, dtype=np.float32)
