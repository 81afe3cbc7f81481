"""The report's pages: one of each person, and one of all; each a file that needs no other."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from qspace_nd._version import __version__
from qspace_nd.arrays import Bools, Float32, Float64
from qspace_nd.evaluation.embedding import Frame, bits, volume

SHARES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""The shares of healthy voxels that a reader can set the threshold at."""

_COMMON = (1.0, 0.5, 0.2)  # shares that curves begin with

_FIGURES = 7  # that a mass is kept with
_DEVIATION = 8.0  # standard deviations: more is shown as this
_DEVIATION_STEP = 0.25
_RESIDUAL = 0.15  # of b=0, that is drawn white: that good scans are dark
_WHITE = 99.5  # percentile that is drawn white


def curve_of(shares: Sequence[float]) -> tuple[float, ...]:
    """The shares, falling, at which a person is drawn among the healthy people."""
    return tuple(sorted({*_COMMON, *shares}, reverse=True))


def logp_at(shares: Sequence[float]) -> list[float]:
    """-log10 of shares, as maps hold p."""
    return [-math.log10(share) for share in shares]


@dataclass(frozen=True, eq=False)
class Healthy:
    """What healthy people's maps are like.

    Attributes
    ----------
    masses : mapping of str to sequence
        Of each person, for each share, for each scan: the masses of its clusters, falling.
    above : mapping of str to sequence of float
        Of each person, the share of the brain above each share of `curve_of` these shares.
    """

    masses: Mapping[str, Sequence[Sequence[Float64]]]
    above: Mapping[str, Sequence[float]]

    def facts(self) -> dict[str, Any]:
        """What a page has to know."""
        return {
            "names": list(self.masses),
            "masses": [
                [[[_short(mass) for mass in scan] for scan in scans] for scans in shares]
                for shares in self.masses.values()
            ],
            "above": [list(map(_short, self.above[name])) for name in self.masses],
        }


@dataclass(frozen=True, eq=False)
class Person:
    """A person's map, and all that is shown with it; volumes are of (X, Y, Z).

    Attributes
    ----------
    name : str
    mask : array
    affine : array (4, 4)
    map : array
        -log10 p where `healthy` is known, else the novelty.
    shares, thresholds : sequence of float
        Of healthy voxels (else of this brain's), falling; and the map's value at each.
    forming : float
        The share that is shown first.
    least : int
        Voxels of a cluster, at least.
    facts : mapping
        The map's sidecar.
    model : mapping
        What is told of the model: its `people`, its `voxels`, and the `smoothing` (mm) of maps
        before they are compared.
    healthy : Healthy or None
    wanting : str
        Why there is none, in a sentence.
    underlays : mapping of str to array
        0 outside what is near the mask.
    residual : array or None
    deviations : mapping of str to array
        In standard deviations of the healthy, which are those of `against`.
    registration : bytes or None
        A picture, PNG, of how the scan lies in the healthy people's template.
    labels : array bool or None
    notes : sequence of str
        What else a reader has to know, a sentence each.
    """

    name: str
    mask: Bools
    affine: Float64
    map: Float32
    shares: Sequence[float]
    thresholds: Sequence[float]
    forming: float
    least: int
    facts: Mapping[str, Any]
    model: Mapping[str, Any]
    healthy: Healthy | None = None
    wanting: str = ""
    underlays: Mapping[str, Float32] = field(default_factory=dict)
    residual: Float32 | None = None
    deviations: Mapping[str, Float32] = field(default_factory=dict)
    against: str = ""
    registration: bytes | None = None
    labels: Bools | None = None
    notes: Sequence[str] = ()

    def data(self) -> dict[str, Any]:
        """What the page's script draws from."""
        frame = Frame.of(self.mask, self.affine)
        values = frame.inside(self.map)
        data = {
            **frame.facts(),
            "name": self.name,
            "shares": list(self.shares),
            "thresholds": list(map(float, self.thresholds)),
            "start": list(self.shares).index(self.forming),
            "least": self.least,
            "curve": list(curve_of(self.shares)),
            "above": [_short(float(np.mean(values > at))) for at in logp_at(curve_of(self.shares))],
            "healthy": None if self.healthy is None else self.healthy.facts(),
            "map": volume(
                values, 16, (float(values.min()), float(values.max())), edges=self.thresholds
            ),
            "underlays": {
                name: volume(values, 8, (0.0, _white(values)), near=name != "FA")
                for name, one in self.underlays.items()
                for values in [frame.inside(one, near=name != "FA")]
            },
            "labels": None if self.labels is None else bits(self.labels[frame.box]),
            "residual": None,
            "deviations": {
                name: volume(
                    _stepped(frame.inside(one)),
                    8,
                    (-_DEVIATION, -_DEVIATION + 255 * _DEVIATION_STEP),
                )
                for name, one in self.deviations.items()
            },
        }
        if self.residual is not None:
            values = frame.inside(self.residual)
            data["residual"] = volume(values, 8, (0.0, _RESIDUAL))
        return data


def page_of(person: Person) -> str:
    """The page of a person, as HTML."""
    drawn = None if person.registration is None else base64.b64encode(person.registration).decode()
    return _filled(
        "person.html", "viewer.js", data=person.data(), person=person, registration=drawn
    )


def index_of(rows: Sequence[Mapping[str, Any]], forming: float | None) -> str:
    """The page of a cohort, as HTML.

    Parameters
    ----------
    rows : sequence of mapping
        Of each person: `name`, `group`, `page` (None where there is none), `thumbnail`; and where
        it is compared with healthy people, `above`, `clusters`, `beyond`, `mass`, `healthy`,
        `people`.
    forming : float or None
        The share of healthy voxels that clusters are formed at.
    """
    return _filled("index.html", "cohort.js", data={"rows": list(rows)}, forming=forming)


def _filled(template: str, script: str, **told: Any) -> str:
    style, code = _text("style.css"), _text(script)
    policy = (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(code)}'; "
        f"img-src data:; "
        f"base-uri 'none'; form-action 'none'"
    )
    known = {"policy": policy, "style": Markup(style), "script": Markup(code)}
    page = environment().get_template(template)
    return page.render(known, version=__version__, **told) + "\n"


@cache
def environment() -> Environment:
    """What fills the templates of `report/`."""
    made = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}  # underlays in their order
    return made


def _text(name: str) -> str:
    return (files("qspace_nd.evaluation") / "report" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """What a policy calls the one script or style that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _white(values: Float64) -> float:
    return float(np.percentile(values, _WHITE)) or 1.0


def _stepped(values: Float64) -> Float64:
    return np.clip(values, -_DEVIATION, _DEVIATION)


def _short(number: float) -> float:
    return float(f"{number:.{_FIGURES}g}")
