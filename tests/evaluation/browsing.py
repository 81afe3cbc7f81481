"""Opening pages in Chromium, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium to open pages with"
)


class Table(HTMLParser):
    """The values of each row of the table of clusters, and what the body says of itself."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[float]] = []
        self.state: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "body":
            self.state = told.get("data-state")
        if tag == "tr" and "data-number" in told:
            self.rows.append([])
        if tag == "td" and told.get("data-value"):
            self.rows[-1].append(float(told["data-value"] or "nan"))


def opened(page: Path, address: str = "") -> tuple[Table, str]:
    """The table of a page, and all of it as text, when it has been opened without a driver."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, "--virtual-time-budget=8000", "--dump-dom", page.as_uri() + address],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Table(done.stdout), done.stdout
