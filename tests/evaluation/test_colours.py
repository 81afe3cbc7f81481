"""Colours that must be told apart are told apart, by the colour-blind too."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.evaluation.figures import BASELINE_COLOUR, COLOURS, HEALTHY, LESION
from qspace_nd.evaluation.mosaic import OUTLINE, novelty_colours
from qspace_nd.evaluation.page import LINES
from qspace_nd.registration.picture import OUTLINE as EDGE
from tests.evaluation.seeing import KINDS, apart

LEAST = 15.0
"""The least distance in CIE Lab; about 2 is seen where two colours lie side by side."""

GREYS = [(level,) * 3 for level in np.linspace(0, 1, 21)]
"""What is seen of a scan."""

STYLE = Path(__file__).parents[2] / "qspace_nd/evaluation/report/style.css"

kinds = pytest.mark.parametrize("kind", KINDS)


def scale() -> list[Sequence[float]]:
    return [tuple(colour[:3]) for colour in novelty_colours()(np.linspace(0, 1, 20))]


def nearest(some: Sequence[object], others: Sequence[object], kind: str) -> float:
    return min(apart(one, other, kind) for one in some for other in others)


@kinds
def test_the_colours_of_novelty_are_none_of_a_scan_and_rise(kind: str) -> None:
    assert nearest(scale(), GREYS, kind) > LEAST
    assert apart(scale()[0], scale()[-1], kind) > 2 * LEAST


@kinds
def test_lines_over_a_map_are_none_of_its_colours(kind: str) -> None:
    lines = [*LINES.values()]
    assert min(apart(one, other, kind) for one, other in combinations(lines, 2)) > LEAST
    assert nearest([*lines, OUTLINE], [*scale(), *GREYS], kind) > LEAST
    assert nearest([EDGE], GREYS, kind) > LEAST


@kinds
def test_the_lines_of_figures_are_told_apart(kind: str) -> None:
    for colours in ((*COLOURS, BASELINE_COLOUR, "white"), (LESION, HEALTHY, "white")):
        assert min(apart(one, other, kind) for one, other in combinations(colours, 2)) > LEAST


@kinds
@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_a_person_s_curve_is_told_from_the_healthy_people_s(kind: str, mode: int) -> None:
    own, healthy, card = (
        re.findall(rf"--{name}: (#\w+)", STYLE.read_text("utf-8"))[mode]
        for name in ("own", "healthy", "card")
    )
    assert min(apart(*two, kind) for two in combinations((own, healthy, _full(card)), 2)) > LEAST


def _full(colour: str) -> str:
    """#abc as matplotlib takes it, and as #aabbcc."""
    return colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])


def test_the_simulation_is_that_of_its_source() -> None:
    """White stays white; deutans see red and green nearly alike, tritans blue and green."""
    for kind in KINDS:
        assert apart("white", "white", kind) == 0
        np.testing.assert_allclose(KINDS[kind].sum(axis=1), 1, atol=1e-5)
    assert apart("#D55E00", "#7a7a00", "deutan") < apart("#D55E00", "#7a7a00", "all") / 2
    assert apart("#56b4e9", "#00c08b", "tritan") < apart("#56b4e9", "#00c08b", "all") / 4
