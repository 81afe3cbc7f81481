"""Stacks: scans without b-values, whose channels are co-registered contrasts such as T1 and FLAIR.

What the channels are called, on which of them scans are registered, what tissue is like by them,
and how a change that is looked for moves them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32, Float64
from qspace_nd.diffusion.changes import components_of
from qspace_nd.errors import InputError, ScanError, counted
from qspace_nd.layouts.facts import read_facts

RISE = 0.1
"""What is added to the logarithm of a channel that is said to rise, or taken from one that falls.

A tenth of the signal, whatever its unit. The size matters little (docs/scores.md).
"""

NAME = r"[A-Za-z][A-Za-z0-9]*"
"""What a channel may be called: as the suffixes of BIDS are made, T1w for one."""

CHANNELS = "Channels"
"""What the JSON file beside a stack calls the list of its channels' names by."""

_DARK = 0.3  # of a channel's mean in the scan: fluid in FLAIR and T1w, whose noise tells nothing
_RANGE = 1, 99  # percentiles of the brain between which a channel is registered


@dataclass(frozen=True)
class Rise:
    """A change of a stack: channels that rise or fall by a share of their signal.

    Attributes
    ----------
    logarithms : tuple of float
        What is added to the logarithm of each channel; 0 for one that stays.
    words : str
        The same in words: `higher FLAIR, lower T1`.
    """

    logarithms: tuple[float, ...]
    words: str

    def __call__(self, x: Float32) -> Float32:
        """Signals (n, C) with the change."""
        return np.asarray(x * np.exp(np.array(self.logarithms, np.float32)))

    def describe(self) -> str:
        """Say it in words."""
        return self.words


@dataclass(frozen=True)
class Stack:
    """The channels of scans without b-values.

    Attributes
    ----------
    names : tuple of str
        Of each channel; its number, from 1, where it was given none.
    registered : int or None
        The index of the channel that scans are registered on; None where they are not.
    """

    names: tuple[str, ...]
    registered: int | None = None

    @staticmethod
    def of(channels: int) -> Stack:
        """Channels that were given no names."""
        return Stack(tuple(str(number + 1) for number in range(channels)))

    def called(self, names: Sequence[str]) -> Stack:
        """The same channels with names.

        Raises
        ------
        InputError
            There are more or fewer than channels, or one is no name or another's too.
        """
        for number, name in enumerate(names):
            if not re.fullmatch(NAME, name):
                raise InputError(
                    f"{name!r} is no name of a channel; expected letters and digits, a letter "
                    f"first, as in T1w,T2w,FLAIR."
                )
            if name in names[:number]:
                raise InputError(f"Two channels are called {name}; give each a name of its own.")
        if len(names) != len(self.names):
            raise InputError(
                f"{counted(len(names), 'name')} of channels ({', '.join(names)}) were given, and "
                f"the scans have {counted(len(self.names), 'channel')}; name each, in order."
            )
        return replace(self, names=tuple(names))

    def registered_on(self, channel: str) -> Stack:
        """The same channels, of which one is registered.

        Raises
        ------
        InputError
            There is none of that name or number.
        """
        index = self.find(channel)
        if index is None:
            raise InputError(
                f"There is no channel {channel!r} to register on; the scans' channels are "
                f"{self.describe()}."
            )
        return replace(self, registered=index)

    def find(self, channel: str) -> int | None:
        """The index of the channel of a name or a number, counted from 1; None for none such."""
        if channel in self.names:
            return self.names.index(channel)
        numbers = Stack.of(len(self.names)).names
        return numbers.index(channel) if channel in numbers else None

    def toward(self, text: str) -> Rise:
        """The change that is written as `FLAIR=+,T1=-`, or by numbers as `1=+,2=-`.

        Raises
        ------
        InputError
            It is none of these channels.
        """
        logarithms = [0.0] * len(self.names)
        words = []
        for part, name, sign in components_of(text):
            index = self.find(name)
            if index is None or sign not in ("+", "-") or logarithms[index]:
                raise InputError(
                    f"{text!r} is no change of the model's scans, which have no b-values: {part!r} "
                    f"is not one of the channels {self.describe()}, each once, with = and + or -; "
                    f"write {self.names[0]}=+ for instance."
                )
            logarithms[index] = RISE if sign == "+" else -RISE
            words.append(f"{'higher' if sign == '+' else 'lower'} {self._called(index)}")
        return Rise(tuple(logarithms), ", ".join(words))

    @property
    def is_named(self) -> bool:
        """Whether the channels were given names."""
        return self.names != Stack.of(len(self.names)).names

    def describe(self) -> str:
        """Name the channels: `1 (T1w), 2 (FLAIR)`."""
        numbers = Stack.of(len(self.names)).names
        return ", ".join(
            number if number == name else f"{number} ({name})"
            for number, name in zip(numbers, self.names, strict=True)
        )

    def features(self, signals: Float32, scan: object) -> Float32:
        """What each voxel's tissue is like by its channels: their logarithms.

        What is darker than 0.3 of a channel's mean counts as that: fluid is as dark as noise in
        FLAIR, and the logarithm of noise would outweigh all tissue.

        Parameters
        ----------
        signals : (n, C) array
        scan : object
            What to call the scan by.

        Returns
        -------
        (n, C) float32 array

        Raises
        ------
        ScanError
            A channel's mean is not above 0.
        """
        means = signals.mean(axis=0, dtype=np.float64)
        if not means.min() > 0:
            index = int(np.argmin(means))
            raise ScanError(
                f"{scan} has a mean of {means[index]:.3g} in {self._called(index)}; "
                f"expected one above 0, as tissue at a place is told by the logarithm of each "
                f"channel: scale the channel otherwise, or fit without --register-on."
            )
        return self.logarithms(signals, means)

    def logarithms(self, signals: Float32, means: Float32 | Float64) -> Float32:
        """The same, where the channels' means (C,) are these."""
        return np.asarray(np.log(np.maximum(signals, _DARK * means)), np.float32)

    def shown(self, signals: Float32, scan: object) -> Float32:
        """What is registered of signals (n, C), from 0 to 1: (n,).

        The channel between its 1st and its 99th percentile, so that its unit does not matter and
        neither do vessels or a hot voxel.

        Raises
        ------
        ScanError
            The channel is one value in nearly all of the brain.
        """
        assert self.registered is not None
        channel = signals[:, self.registered]
        low, high = np.percentile(channel, _RANGE)
        if not high > low:
            raise ScanError(
                f"{scan} has one value in nearly all of its brain in "
                f"{self._called(self.registered)}, by which it cannot be registered; look at the "
                f"channel, or name another with --register-on."
            )
        return np.asarray(np.clip((channel - low) / (high - low), 0, 1), np.float32)

    @property
    def told(self) -> str:
        """What is registered, as sentences call it."""
        return self._called(self.registered or 0)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        return {"names": list(self.names), "registered": self.registered}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Stack:
        """Read what `to_json` returned."""
        return Stack(tuple(data["names"]), data["registered"])

    def _called(self, index: int) -> str:
        """A channel as sentences call it: its name, or that it is the one of a number."""
        name = self.names[index]
        return f"channel {name}" if name.isdigit() else name


def names_told(sidecars: Sequence[Path], channels: int) -> tuple[str, ...]:
    """The names that a JSON file beside a scan gives its channels; none where it gives none.

    Parameters
    ----------
    sidecars : sequence of Path
        The nearest first.
    channels : int
        How many names there must be; what else a file of another program may hold is passed over.
    """
    for path in sidecars:
        try:
            names = read_facts(path).get(CHANNELS)
        except ValueError:  # whoever needs the file says what is wrong with it
            continue
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            continue
        if len(names) == channels == len({*names}) and all(re.fullmatch(NAME, n) for n in names):
            return tuple(names)
    return ()
