"""The report's pages: one of each person, and one of all; each a file that needs no other."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, FunctionLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from qspace_nd._version import __version__
from qspace_nd.arrays import Bools, Float32, Float64, Ints
from qspace_nd.evaluation.chart import Chart, percent, x
from qspace_nd.evaluation.embedding import Frame, bits, volume

SHARES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)
"""The shares of healthy voxels that a reader can set the threshold at."""

_COMMON = (1.0, 0.5, 0.2)  # shares that curves begin with

RESIDUAL = "residual"
"""What a page calls the picture of what the fit in spherical harmonics left over."""

LINES = {"mask": "#1f78ff", "labels": "#d08cff", "cross": "#9bd3f5"}
"""The colours of what is drawn over a map."""

_COMPARED = (
    "forming",
    "above",
    "clusters",
    "beyond",
    "mass",
    "healthy",
    "people",
)  # of a row, or None
_QUANTITIES = {"b0": "b=0", "md": "mean diffusivity", "fa": "anisotropy"}
_COLOURS = 32
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

    def facts(self) -> list[Any]:
        """The masses as the page's script takes them: of each person, share, scan and cluster."""
        return [
            [[[_short(mass) for mass in scan] for scan in scans] for scans in shares]
            for shares in self.masses.values()
        ]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of an atlas that voxels lie in.

    Attributes
    ----------
    numbers : array (X, Y, Z) of int
        0 in none.
    names : mapping of int to str
        What the others are called.
    """

    numbers: Ints
    names: Mapping[int, str]

    def facts(self, frame: Frame) -> dict[str, Any]:
        """What a page has to know: the names, and for each voxel in the mask which it is of."""
        there, which = np.unique(self.numbers[frame.box][frame.mask], return_inverse=True)
        names = ["no region", *(self.names.get(one, str(one)) for one in there.tolist() if one)]
        which = which.ravel() + (0 if 0 in there else 1)
        depth = 8 if len(names) <= 2**8 else 16
        return {
            "names": names,
            "volume": volume(which.astype(np.float64), depth, (0.0, 2.0**depth - 1)),
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
    regions : Regions or None
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
    regions: Regions | None = None
    notes: Sequence[str] = ()

    @property
    def curve(self) -> list[float]:
        """The share of the brain above each share of `curve_of` the shares."""
        values = self.map[self.mask]
        return [float(np.mean(values > at)) for at in logp_at(curve_of(self.shares))]

    def above(self, share: float) -> float:
        """The share of the brain above one of these."""
        return self.curve[curve_of(self.shares).index(share)]

    def healthy_above(self, share: float) -> list[float]:
        """The same of each healthy person; none where none is known."""
        at = curve_of(self.shares).index(share)
        return [] if self.healthy is None else [own[at] for own in self.healthy.above.values()]

    def data(self) -> dict[str, Any]:
        """What the page's script draws from."""
        frame = Frame.of(self.mask, self.affine)
        values = frame.inside(self.map)
        data = {
            **frame.facts(),
            "shares": list(self.shares),
            "thresholds": list(map(float, self.thresholds)),
            "start": list(self.shares).index(self.forming),
            "least": self.least,
            "marks": list(map(x, self.shares)),
            "healthy": None if self.healthy is None else self.healthy.facts(),
            "colours": _colours(),
            "lines": LINES,
            "map": volume(
                values, 16, (float(values.min()), float(values.max())), edges=self.thresholds
            ),
            "underlays": {
                name: volume(values, 8, (0.0, _white(values)), near=name != "FA")
                for name, one in self.underlays.items()
                for values in [frame.inside(one, near=name != "FA")]
            },
            "labels": None if self.labels is None else bits(self.labels[frame.box]),
            "regions": None if self.regions is None else self.regions.facts(frame),
            "deviations": {
                _told(name): volume(
                    _stepped(frame.inside(one)),
                    8,
                    (-_DEVIATION, -_DEVIATION + 255 * _DEVIATION_STEP),
                )
                for name, one in self.deviations.items()
            },
        }
        if self.residual is not None:
            values = frame.inside(self.residual)
            data["underlays"][RESIDUAL] = volume(values, 8, (0.0, _RESIDUAL))
        return data


def page_of(person: Person) -> str:
    """The page of a person, as HTML."""
    drawn = None if person.registration is None else base64.b64encode(person.registration).decode()
    healthy = {} if person.healthy is None else person.healthy.above
    chart = Chart(curve_of(person.shares), person.name, person.curve, [*healthy.values()])
    under = [*(person.underlays or ["mask"]), *([] if person.residual is None else [RESIDUAL])]
    told = {"person": person, "registration": drawn, "under": under}
    return _filled(
        "person.html", "viewer.js", data=person.data(), curves=Markup(chart.drawn()), **told
    )


def index_of(rows: Sequence[Mapping[str, Any]], model: str) -> str:
    """The page of a cohort, as HTML.

    Parameters
    ----------
    rows : sequence of mapping
        Of each person: `name`, `group`, `page` (None where there is none), `thumbnail`; and where
        it is compared with healthy people, `forming` (the share of healthy voxels that clusters
        were formed at), `above`, `clusters`, `beyond`, `mass`, `healthy`, `people`.
    model : str
        The digest of the model that made the maps.
    """
    padded = [{**dict.fromkeys(_COMPARED), **row} for row in rows]
    forming = sorted({row["forming"] for row in padded} - {None})
    return _filled(
        "index.html", "cohort.js", data={"model": model, "rows": padded}, forming=forming
    )


def made_of(page: str) -> dict[str, Any] | None:
    """The `model` and the `rows` that a page of a cohort was made of; None where it is no such."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    with suppress(ValueError, TypeError, KeyError, TemplateError):
        told: dict[str, Any] = json.loads(found[1] if found else "")
        index_of(told["rows"], told["model"])  # which takes nothing else
        if all(isinstance(row["page"] or row["name"], str) for row in told["rows"]):
            return told
    return None


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
    made.filters["percent"] = percent
    made.policies["json.dumps_kwargs"] = {"sort_keys": False}  # underlays in their order
    return made


def _text(name: str) -> str:
    return (files("qspace_nd.evaluation") / "report" / name).read_text("utf-8")


def _digest(text: str) -> str:
    """What a policy calls the one script or style that may run."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _white(values: Float64) -> float:
    return float(np.percentile(values, _WHITE)) or 1.0


def _colours() -> list[list[int]]:
    """The scale of novelty, as pictures of maps have it."""
    from qspace_nd.evaluation.mosaic import novelty_colours

    shown = novelty_colours()(np.linspace(0, 1, _COLOURS))
    return [[round(255 * part) for part in colour] for colour in shown[:, :3].tolist()]


def _told(quantity: str) -> str:
    """What a page calls a quantity that the healthy people's is compared with."""
    return _QUANTITIES.get(quantity) or re.sub(r"^b(\d+)$", r"mean at b=\1", quantity)


def _stepped(values: Float64) -> Float64:
    return np.clip(values, -_DEVIATION, _DEVIATION)


def _short(number: float) -> float:
    return float(f"{number:.{_FIGURES}g}")
