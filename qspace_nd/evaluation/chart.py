"""The chart of a page: what share of a brain is as novel as each share of healthy voxels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as Tree

_WIDTH, _HEIGHT = 560, 340  # in units of the picture's own, as all that follows
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 530, 10, 276
_TICKS = (1.0, 0.1, 0.01, 0.001, 0.0001)


@dataclass(frozen=True)
class Chart:
    """Curves over shares of healthy voxels, from all on the left to few; both axes are of decades.

    Attributes
    ----------
    shares : sequence of float
        Of healthy voxels: where curves have their points.
    name : str
        Of the person.
    own : sequence of float
        The share of this person's brain that is above each of the shares.
    healthy : sequence of sequences of float
        The same of each healthy person.
    """

    shares: Sequence[float]
    name: str
    own: Sequence[float]
    healthy: Sequence[Sequence[float]]

    def drawn(self) -> str:
        """The chart as SVG, which a page's style colours: curves are `own` or `healthy`.

        What has the id `marked` is a line for the threshold, which is to be moved to `x` of it.
        """
        svg = Tree.Element("svg", viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img")
        Tree.SubElement(svg, "title").text = "Share of the brain above each share of healthy voxels"
        for share in _TICKS:
            across, down = x(share), y(share)
            _line(svg, "grid", (_LEFT, down), (_RIGHT, down))
            _text(svg, (_LEFT - 6, down + 4), percent(share), "end")
            _text(svg, (across, _BOTTOM + 38), percent(share), "middle")
        for above in self.healthy:
            self._curve(svg, "healthy", above)
        self._curve(svg, "own", self.own)
        _text(svg, (x(0.01), _HEIGHT - 6), "as novel as this share of healthy voxels", "middle")
        turned = _text(svg, (0, 0), "share of the brain", "middle")
        turned.set("transform", f"translate(14 {y(0.01)}) rotate(-90)")
        marked = Tree.SubElement(svg, "g", id="marked")
        _line(marked, "threshold", (0, _TOP), (0, _BOTTOM + 20))
        _text(marked, (5, _BOTTOM - 6), "threshold")
        names = {"own": self.name, "healthy": f"each of {len(self.healthy)} healthy people"}
        for number, (kind, name) in enumerate(names.items()):  # where no curve runs
            height = _TOP + 14 + 22 * number
            _line(svg, kind, (x(0.018), height), (x(0.008), height))
            _text(svg, (x(0.007), height + 4), name)
        return Tree.tostring(svg, "unicode")

    def _curve(self, svg: Tree.Element, kind: str, above: Sequence[float]) -> None:
        points = (f"{x(share)},{y(own)}" for share, own in zip(self.shares, above, strict=True))
        Tree.SubElement(svg, "polyline", {"class": kind, "points": " ".join(points)})


def x(share: float) -> float:
    """Where a share of healthy voxels lies, from the left."""
    return round(_LEFT + (_RIGHT - _LEFT) * _down(share), 2)


def y(share: float) -> float:
    """Where a share of the brain lies, from the top; what is too little is a little below."""
    return round(_TOP + (_BOTTOM - _TOP) * min(1.08, _down(share)), 2)


def percent(share: float | None) -> str:
    """A share as the page's script tells it, in two figures."""
    return "–" if share is None else f"{float(f'{100 * share:.1e}'):.10g} %"


def _down(share: float) -> float:
    """How far down to the last tick a share is, of all that is drawn."""
    return math.log(share) / math.log(_TICKS[-1]) if share > 0 else math.inf


def _line(
    svg: Tree.Element, kind: str, start: tuple[float, float], end: tuple[float, float]
) -> None:
    places = zip(("x1", "y1", "x2", "y2"), map(str, (*start, *end)), strict=True)
    Tree.SubElement(svg, "line", {"class": kind, **dict(places)})


def _text(
    svg: Tree.Element, at: tuple[float, float], text: str, anchor: str = "start"
) -> Tree.Element:
    made = Tree.SubElement(svg, "text", {"text-anchor": anchor})
    made.set("x", str(at[0]))
    made.set("y", str(at[1]))
    made.text = text
    return made
