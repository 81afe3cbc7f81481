"""A person's page as a file: it asks for nothing, holds what it was given, and stays small."""

from __future__ import annotations

import base64
import hashlib
import re
from configparser import ConfigParser
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape

from qspace_nd.evaluation.embedding import Frame
from qspace_nd.evaluation.page import Person, Regions, index_of, page_of
from tests.evaluation.pages import (
    FLIPPED,
    ball,
    data_in,
    mask_in,
    null_of,
    person_of,
    smooth,
    values_in,
)

ROOT = Path(__file__).parents[2]
MASK = ball((24, 20, 22))
PICTURE = {"png": "data:image/png;base64,", "width": 50}
ROW = {"name": "sub-01", "group": "mapped", "page": "sub-01.html", "thumbnail": PICTURE}


@pytest.fixture(scope="module")
def person() -> Person:
    return person_of(null_of(5, MASK), MASK)


@pytest.fixture(scope="module")
def page(person: Person) -> str:
    return page_of(person)


@pytest.fixture(scope="module", params=["person", "index"])
def either(request: pytest.FixtureRequest, page: str) -> str:
    return page if request.param == "person" else index_of([ROW], "digest")


def test_a_page_asks_for_nothing(either: str) -> None:
    for link in re.findall(r"""(?:src|href|action|srcset|data)\s*=\s*["']([^"']*)""", either):
        assert re.match(
            r"(#[a-z]+|index\.html|sub-01\.html|data:image/png;base64,[\w+/=]*)$", link
        ), link
    assert not re.search(
        r"@import|url\(|fetch\(|XMLHttp|WebSocket|import\(|<iframe|<object", either
    )
    addresses = set(re.findall(r"\w+://[\w./]*", either))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # the name of a kind of picture


def test_a_policy_lets_its_own_script_and_style_run_and_forbids_all_else(either: str) -> None:
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', either)
    rules = dict(rule.strip().split(" ", 1) for rule in unescape(policy).split(";"))
    (style,) = re.findall(r"<style>(.*?)</style>", either, re.S)
    (script,) = re.findall(r'<script type="module">(.*?)</script>', either, re.S)
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    for kind, text in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(kind) == f"'sha256-{digest}'"
    assert rules == {"img-src": "data:"}
    assert either.index("Content-Security-Policy") < either.index("<style>")


def test_the_map_comes_back_within_one_part_in_65535(person: Person, page: str) -> None:
    data = data_in(page)
    mask = mask_in(data["mask"], data["shape"])
    frame = Frame.of(person.mask, person.affine)
    np.testing.assert_array_equal(mask, person.mask[frame.box])
    given, found = person.map[person.mask], values_in(data["map"])
    assert np.abs(found - given).max() <= np.ptp(given) / 65535
    for threshold in person.thresholds:
        np.testing.assert_array_equal(found > threshold, given > threshold)


def test_the_anatomy_is_blank_away_from_the_brain(page: str) -> None:
    data = data_in(page)
    near = mask_in(data["near"], data["shape"])
    (b0, fa) = (data["underlays"][name] for name in ("b=0", "FA"))
    assert b0["near"] and len(values_in(b0)) == near.sum() < near.size
    assert not fa["near"] and len(values_in(fa)) == mask_in(data["mask"], data["shape"]).sum()


def test_deviations_come_back_within_an_eighth_of_a_standard_deviation(
    person: Person, page: str
) -> None:
    found = data_in(page)["deviations"]
    assert [*found] == ["b=0", "mean diffusivity", "anisotropy"]
    for one, values in zip(found.values(), person.deviations.values(), strict=True):
        given = np.clip(values[person.mask], -8, 8)
        assert np.abs(values_in(one) - given).max() <= 0.125 + 1e-6


def test_healthy_people_s_clusters_are_all_there(person: Person, page: str) -> None:
    assert person.healthy is not None
    found = data_in(page)["healthy"]
    for told, (name, shares) in zip(found, person.healthy.masses.items(), strict=True):
        assert len(told) == len(person.shares)
        for own, given in zip(told, shares, strict=True):
            np.testing.assert_allclose(own[0], given[0], rtol=1e-6, err_msg=name)


def test_the_same_person_has_the_same_page(person: Person, page: str) -> None:
    assert page_of(person) == page
    assert index_of([ROW], "digest") == index_of([ROW], "digest")


def test_a_name_does_no_harm() -> None:
    name = "<script>alert(1)</script>\"'&"
    person = person_of(null_of(4, MASK), MASK, name=name, notes=[name], facts={name: name})
    for page in (page_of(person), index_of([ROW | {"name": name}], "digest")):
        assert "alert(1)" in page
        assert "<script>alert" not in page
        assert page.count("<script") == 2
        assert f">{escape(name)}</" in page


def test_without_healthy_people_a_page_says_what_cannot_be_said() -> None:
    wanting = "The model is not calibrated."
    novelty = smooth(MASK.shape, 1)
    person = person_of(
        null_of(4, MASK), MASK, map=novelty, healthy=None, wanting=wanting, residual=None,
        deviations={}, underlays={}, labels=None,
        thresholds=[float(np.quantile(novelty[MASK], 1 - share)) for share in (0.05, 0.01)],
        shares=(0.05, 0.01),
    )  # fmt: skip
    page = page_of(person)
    assert wanting in page
    assert "was not compared with maps of healthy people" in page
    assert data_in(page)["healthy"] is None


@pytest.mark.parametrize(
    ("size", "shape", "limit"), [(2.0, (68, 84, 66), 2.0), (1.5, (91, 112, 88), 5.0)]
)
def test_a_page_is_small(size: float, shape: tuple[int, int, int], limit: float) -> None:
    """Of a brain of 1.5 l, noise and nothing else, with 20 healthy people."""
    mask = ball(shape, 0.5)
    assert mask.sum() * size**3 > 1.5e6
    noise = np.random.default_rng(0)

    def drawn(scale: float = 1.0) -> np.ndarray:
        return noise.normal(scale=scale, size=shape).astype(np.float32)

    person = replace(
        person_of(null_of(20, MASK), MASK),
        mask=mask,
        affine=np.diag([size, size, size, 1]),
        map=-np.log10(noise.random(shape)).astype(np.float32),
        underlays={"b=0": 1000 + drawn(200), "FA": np.abs(drawn(0.2))},
        residual=np.abs(drawn(0.03)),
        deviations={name: drawn() for name in ("b0", "md", "fa", "b1000")},
        labels=np.zeros(shape, bool),
        regions=Regions(1 + np.ravel_multi_index(np.indices(shape) // 14, (8, 8, 8)), {}),
    )
    assert len(page_of(person).encode()) < limit * 1e6


def test_the_affine_of_these_tests_is_not_a_plain_one() -> None:
    assert not np.allclose(FLIPPED, np.diag(np.diag(FLIPPED)))


def test_templates_style_and_scripts_stay_small() -> None:
    parts = [*(ROOT / "qspace_nd/evaluation/report").glob("*.[hjc]*")]
    assert {path.suffix for path in parts} == {".html", ".js", ".css"}
    assert sum(len(path.read_text("utf-8").splitlines()) for path in parts) < 700


def test_the_package_brings_what_pages_are_made_of() -> None:
    settings = ConfigParser()
    settings.read(ROOT / "setup.cfg", "utf-8")
    patterns = settings["options.package_data"]["qspace_nd"].split(", ")
    brought = {path for pattern in patterns for path in (ROOT / "qspace_nd").glob(pattern)}
    there = {*(ROOT / "qspace_nd/evaluation/report").iterdir()}
    assert {path.name for path in there} >= {"base.html", "style.css", "viewer.js"}
    assert there <= brought
