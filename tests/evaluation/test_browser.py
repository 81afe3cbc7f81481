"""Pages in a browser, opened as files: what they say is what Python says. Skipped without one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qspace_nd.calibration.clusters import HealthyClusters, beside_healthy, find_clusters
from qspace_nd.evaluation.embedding import thumbnail
from qspace_nd.evaluation.page import Person, index_of, page_of
from tests.evaluation.browsing import CHROMIUM, FLAGS, needs_chromium, opened
from tests.evaluation.pages import FLIPPED, ball, null_of, person_of

DRIVER = shutil.which("chromedriver")
MASK = ball((24, 20, 22))
NULL = null_of(5, MASK)

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def person() -> Person:
    return person_of(NULL, MASK)


@pytest.fixture(scope="module")
def folder(person: Person, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page of all and a person's."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "sub-01.html").write_text(page_of(person), "utf-8")
    picture = thumbnail(person.map[MASK], MASK, FLIPPED, 5.0)
    rows = [
        {
            "name": name, "group": "mapped", "page": "sub-01.html" if page else None,
            "above": above, "clusters": 3, "beyond": 0, "mass": 10.0, "healthy": 1, "people": 5,
            "thumbnail": picture,
        }
        for name, page, above in (("sub-01", True, 0.01), ("b", False, 0.03), ("a", False, 0.02))
    ]  # fmt: skip
    (folder / "index.html").write_text(index_of(rows, "digest"), "utf-8")
    return folder


# --- What a page says once its script has run


def expected(person: Person, share: float, least: int = 0) -> list[list[float]]:
    """What scipy finds: number, volume, mass, peak, people, expected, p, place of each cluster."""
    found = find_clusters(person.map[MASK], MASK, FLIPPED, share)
    compared = beside_healthy(found, HealthyClusters(NULL, share).masses)
    return [
        [n, c.volume, c.mass, c.peak, c.healthy, c.expected, c.p, *c.peak_at]
        for n, c in enumerate(compared.clusters, start=1)
        if round(c.volume / 15) >= least  # mm³ of a voxel
    ]


@pytest.mark.parametrize("share", [0.01, 0.05, 0.001])
def test_the_clusters_are_those_that_scipy_finds(
    person: Person, folder: Path, share: float
) -> None:
    table, _ = opened(folder / "sub-01.html", "" if share == 0.01 else f"#thr={share}")
    assert table.state == "ready"
    wanted = expected(person, share)
    assert len(table.rows) == len(wanted) > 0
    found = np.array(table.rows)
    np.testing.assert_allclose(found[:, :10], wanted, rtol=1e-3, atol=1e-3)
    assert found[0, 10] > 0.9 or share == 0.05  # most of the lesion is in the label


def test_the_address_says_where_and_what_is_looked_at(person: Person, folder: Path) -> None:
    table, text = opened(folder / "sub-01.html", "#thr=0.02&at=6,0,5&min=12")
    assert len(table.rows) == len(expected(person, 0.02, least=12)) < len(expected(person, 0.02))
    assert re.search(r'id="here">\(6, 0, 5\) mm: ', text)
    assert "2 % of healthy voxels</output>" in text


def test_a_name_that_is_a_script_does_not_run(tmp_path: Path) -> None:
    name = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    page = tmp_path / "page.html"
    page.write_text(page_of(person_of(NULL, MASK, name=name, notes=[name])), "utf-8")
    table, text = opened(page)
    assert table.state == "ready"
    assert "<title>run" not in text


def test_nothing_but_the_own_script_runs(person: Person, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    foreign = (
        "<script>document.title='run'</script><img src='data:,' onerror=\"document.title='run'\">"
    )
    page.write_text(page_of(person).replace("<main>", f"{foreign}<main>"), "utf-8")
    table, text = opened(page)
    assert table.state == "ready"
    assert "<title>run" not in text


def test_without_healthy_people_the_page_is_ready_too(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    bare = person_of(
        NULL, MASK, healthy=None, wanting="Not calibrated.", underlays={}, residual=None,
        deviations={}, labels=None,
    )  # fmt: skip
    page.write_text(page_of(bare), "utf-8")
    table, text = opened(page)
    assert table.state == "ready"
    assert len(table.rows) == len(expected(bare, 0.01))
    assert "1 % of this brain</output>" in text


# --- What a reader does


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    if DRIVER is None:
        pytest.skip("there is no chromedriver to drive Chromium with")
    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, "--window-size=1280,1000"):
        options.add_argument(flag)
    driver = selenium.Chrome(options, selenium.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, folder: Path) -> Any:
    """The person's page, ready."""
    _open(browser, folder / "sub-01.html")
    return browser


def _open(browser: Any, path: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    browser.get(path.as_uri())
    WebDriverWait(browser, 20).until(
        lambda driver: driver.execute_script("return document.body.dataset.state") == "ready"
    )


def _told(browser: Any) -> dict[str, str]:
    """What the address says."""
    address: str = browser.execute_script("return location.hash.slice(1)")
    return dict(part.split("=") for part in address.split("&"))


def _all(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def _slide(browser: Any, name: str, value: int) -> None:
    browser.execute_script(
        "const one = document.getElementById(arguments[0]); one.value = arguments[1];"
        "one.dispatchEvent(new Event('input', { bubbles: true }))",
        name,
        value,
    )


def _picture(browser: Any, selector: str) -> str:
    return str(
        browser.execute_script("return document.querySelector(arguments[0]).toDataURL()", selector)
    )


def test_the_sliders_change_the_clusters_and_the_address(page: Any, person: Person) -> None:
    before = _picture(page, "canvas[data-world='2']")
    _slide(page, "threshold", 1)
    assert len(_all(page, "#clusters tbody tr")) == len(expected(person, 0.05))
    assert _told(page)["thr"] == "0.05"
    assert _picture(page, "canvas[data-world='2']") != before
    _slide(page, "least", 20)
    assert len(_all(page, "#clusters tbody tr")) == len(expected(person, 0.05, least=20))
    assert _told(page)["min"] == "20"


def test_a_click_on_a_cluster_goes_there(page: Any, person: Person) -> None:
    _slide(page, "threshold", 1)
    _all(page, "#clusters tbody tr")[1].click()
    place = [float(mm) for mm in _told(page)["at"].split(",")]
    assert place == pytest.approx(expected(person, 0.05)[1][7:], abs=0.1)
    (chosen,) = _all(page, "#clusters tbody tr.chosen")
    assert chosen.get_attribute("data-number") == "1"


def test_deviations_are_those_of_the_voxel_and_the_mean_of_its_cluster(
    page: Any, person: Person
) -> None:
    _all(page, "#clusters tbody tr")[0].click()
    head, *rows = (row.text for row in _all(page, "#deviations tr"))
    assert head.split() == ["here", "cluster"]
    found = find_clusters(person.map[MASK], MASK, FLIPPED, 0.01)
    inside = np.array(expected(person, 0.01)[0][7:])
    index = np.rint(np.linalg.solve(FLIPPED[:3, :3], inside - FLIPPED[:3, 3])).astype(int)
    names = ["b=0", "mean diffusivity", "anisotropy"]
    for row, name, values in zip(rows, names, person.deviations.values(), strict=True):
        assert row.startswith(name)
        here, mean = (float(text.replace("−", "-")) for text in row.split()[-2:])
        assert here == pytest.approx(values[tuple(index)], abs=0.2)
        assert mean == pytest.approx(values[found.labels == 1].mean(), abs=0.1)


def test_keys_and_the_wheel_move_by_a_voxel(page: Any) -> None:
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    (axial,) = _all(page, "canvas[data-world='2']")
    axial.click()
    middle = [float(mm) for mm in _told(page)["at"].split(",")]
    for key, moved in (
        (Keys.ARROW_LEFT, (2, 0, 0)),  # to the patient's right
        (Keys.ARROW_UP, (0, 2.5, 0)),
        (Keys.PAGE_DOWN, (0, 0, -3)),
    ):
        axial.send_keys(key)
        place = [float(mm) for mm in _told(page)["at"].split(",")]
        assert np.subtract(place, middle) == pytest.approx(moved, abs=0.11)
        middle = place
    ActionChains(page).scroll_from_origin(ScrollOrigin.from_element(axial), 0, -100).perform()
    page.execute_async_script("requestAnimationFrame(arguments[0])")
    assert float(_told(page)["at"].split(",")[2]) == pytest.approx(middle[2] + 3, abs=0.11)


def test_a_click_in_a_plane_goes_to_the_voxel_that_is_drawn_there(page: Any) -> None:
    from selenium.webdriver import ActionChains

    (axial,) = _all(page, "canvas[data-world='2']")
    right = -int(0.3 * axial.size["width"])
    ActionChains(page).move_to_element_with_offset(axial, right, 0).click().perform()
    assert float(_told(page)["at"].split(",")[0]) > 8  # the patient's right is on the left


def test_what_is_chosen_is_drawn(page: Any) -> None:
    seen = {_picture(page, "canvas[data-world='2']")}
    for name, change in (
        ("under", "value = 'FA'"),
        ("under", "value = 'residual'"),
        ("over", "value = 'map'"),
        ("over", "value = 'none'"),
        ("show-mask", "checked = true"),
        ("show-labels", "checked = false"),
        ("show-cross", "checked = false"),
    ):
        page.execute_script(
            f"const one = document.getElementById('{name}'); one.{change};"
            "one.dispatchEvent(new Event('input'))"
        )
        seen.add(_picture(page, "canvas[data-world='2']"))
    assert len(seen) == 8


def test_the_page_of_all_is_sorted_and_leads_to_people(browser: Any, folder: Path) -> None:
    _open(browser, folder / "index.html")

    def names() -> list[str]:
        return [row.text.split()[0] for row in _all(browser, "#people tbody tr")]

    heads = {head.text.split(" ")[0]: head for head in _all(browser, "#people th button")}
    heads["above"].click()
    assert names() == ["b", "a", "sub-01"]
    heads["above"].click()
    assert names() == ["sub-01", "a", "b"]
    heads["name"].click()
    assert names() == ["a", "b", "sub-01"]
    widths = "return [...document.images].map((one) => one.naturalWidth)"
    assert min(browser.execute_script(widths)) > 10
    _all(browser, "#people tbody a")[0].click()
    assert browser.current_url.startswith((folder / "sub-01.html").as_uri())
