"""Under which conditions a scan was made, and in what they differ from those of healthy scans.

Voxel size, echo time, field strength and scanner change the signal by more than many a disease; so
does noise, which the residual of the fit in spherical harmonics tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Float32
from qspace_nd.errors import ModelError, listed
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.facts import read_facts

_log = logging.getLogger(__name__)

MOST_ABOVE = 1 / 3
"""The share of voxels that may have a residual above that of all but 5 % of the healthy.

In real scans of one protocol, of two people and up to three runs each, it was 0.02 to 0.11; among
simulated people of one cohort at most 0.27; between real protocols 0.14 to 0.95.
"""

_RANGE = 5, 95  # percentiles
_SIZES, _ECHO_TIME, _FIELD = 0.10, 0.05, 0.10  # shares; 2.89 T is written for 3 T


@dataclass(frozen=True)
class Conditions:
    """How a scan was made, as far as it is known.

    Attributes
    ----------
    voxel_sizes : tuple of float
        mm.
    echo_time : float or None
        s.
    field_strength : float or None
        T.
    scanner : str or None
        Its maker and model.
    residual : tuple of float or None
        5th and 95th percentile of the fit's residual, as a share of b=0; None where nothing is
        fitted.
    """

    voxel_sizes: tuple[float, ...]
    echo_time: float | None = None
    field_strength: float | None = None
    scanner: str | None = None
    residual: tuple[float, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain data, to be read back by `from_json`."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> Conditions:
        """Read what `to_json` returned.

        Raises
        ------
        ModelError
            It is something else.
        """
        try:
            residual = data["residual"]
            return Conditions(
                tuple(map(float, data["voxel_sizes"])),
                _number(data["echo_time"]),
                _number(data["field_strength"]),
                None if data["scanner"] is None else str(data["scanner"]),
                None if residual is None else (float(residual[0]), float(residual[1])),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise ModelError(
                "The model does not say as expected how its healthy scans were made (conditions of "
                "its scans in model.json); fit it again."
            ) from error


def conditions_of(voxels: Voxels) -> Conditions:
    """The conditions of a scan that was read: by its header, the `.json` beside it, its signal."""
    files = voxels.scan.files
    facts: dict[str, Any] = {}
    for path in reversed(files.sidecars):  # the nearest last: what it says holds
        facts |= _facts(path)
    echo_time = _number(facts.get("EchoTime"))
    if echo_time is not None and echo_time >= 1:  # ms, which BIDS has not: no echo is so late
        echo_time /= 1000
    sample = voxels.residual_sample
    return Conditions(
        tuple(round(float(size), 4) for size in voxels.scan.grid.voxel_sizes),
        echo_time,
        _number(facts.get("MagneticFieldStrength")),
        _scanner(facts),
        None if sample is None else tuple(np.percentile(sample, _RANGE).round(6).tolist()),
    )


def differences(own: Conditions, healthy: Sequence[Conditions]) -> list[str]:
    """Name in words what is unlike in all healthy scans of which it is known, the residual aside.

    Parameters
    ----------
    own : Conditions
        Of the scan.
    healthy : sequence of Conditions
    """
    return [
        f"{say(value)} and not {listed(list(dict.fromkeys(map(say, known))))}"
        for key, near, say in _KINDS
        if (value := getattr(own, key)) is not None
        and (known := [v for one in healthy if (v := getattr(one, key)) is not None])
        and not any(near(value, other) for other in known)
    ]


def usual(conditions: Sequence[Conditions]) -> Conditions:
    """What most of some scans have of each condition: the first of several values.

    Of the residuals' percentiles the median, of an even number of scans the lower one. There has
    to be a scan.
    """
    most: dict[str, Any] = {}
    for key, near, _ in _KINDS:
        known = [value for one in conditions if (value := getattr(one, key)) is not None]
        alike = [sum(near(value, other) for other in known) for value in known]
        most[key] = known[alike.index(max(alike))] if known else None
    residuals = [one.residual for one in conditions if one.residual is not None]
    middle = np.percentile(residuals, 50, axis=0, method="lower").tolist() if residuals else None
    return Conditions(**most, residual=None if middle is None else tuple(middle))


def unlike(path: Path, found: Sequence[str]) -> str:
    """Warn of a scan by what was `found` to differ."""
    return (
        f"{path} is unlike the scans it is compared with: it has {'; '.join(found)}. What differs "
        f"may look like disease: compare scans of one protocol, of people alike."
    )


def residual_difference(sample: Float32 | None, healthy: Sequence[Conditions]) -> Iterator[str]:
    """Say where more of a scan's residuals (n,) lie above the healthy range than of a healthy.

    A smaller residual is no fault: less noise makes no voxel look ill.
    """
    limits = [one.residual[1] for one in healthy if one.residual is not None]
    if sample is None or not limits:
        return
    share = (sample > max(limits)).mean()
    if share > MOST_ABOVE:
        yield (
            f"a residual of the fit above {100 * max(limits):.2g} % of b=0 in {100 * share:.0f} % "
            f"of its voxels and not in about 5 %"
        )


def _facts(path: Path) -> dict[str, Any]:
    try:
        return read_facts(path)
    except ValueError as error:
        _log.warning(
            f"{path} cannot be read ({error}): what it says of how the scan was made, echo time "
            f"and scanner, is not compared."
        )
        return {}


def _number(value: object) -> float | None:
    """A positive number, None where it is none."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e6:
        return float(value)
    return None


def _scanner(facts: dict[str, Any]) -> str | None:
    told = [facts.get(key) for key in ("Manufacturer", "ManufacturersModelName")]
    words = [word for one in told if isinstance(one, str) for word in one.split()]
    return " ".join(words)[:200] or None


def _near(own: float, other: float, share: float) -> bool:
    return abs(own - other) <= share * max(own, other)


def _same_sizes(own: Sequence[float], other: Sequence[float]) -> bool:
    """Whether voxels are of one size, whatever axis is stored first."""
    return len(own) == len(other) and all(
        _near(a, b, _SIZES) for a, b in zip(sorted(own), sorted(other), strict=True)
    )


def _same_scanner(own: str, other: str) -> bool:
    return own.replace("_", " ").casefold() == other.replace("_", " ").casefold()


def _say_sizes(sizes: Sequence[float]) -> str:
    return f"voxels of {' x '.join(f'{size:.3g}' for size in sizes)} mm"


_KINDS: tuple[tuple[str, Callable[[Any, Any], bool], Callable[[Any], str]], ...] = (
    ("voxel_sizes", _same_sizes, _say_sizes),
    ("echo_time", partial(_near, share=_ECHO_TIME), lambda s: f"an echo time of {1e3 * s:.3g} ms"),
    ("field_strength", partial(_near, share=_FIELD), lambda t: f"a field of {t:.3g} T"),
    ("scanner", _same_scanner, lambda name: f"the scanner {name}"),
)
"""What is compared: the attribute, when two values are alike, and how one is said."""
