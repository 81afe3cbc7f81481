"""How the pages of this folder are made into a site.

In the root of the repository:

    .venv/bin/sphinx-build -W --keep-going docs build/site

Links between pages and files are written as they work in the repository. Files that lie outside of
this folder and are pages of the site too (`ELSEWHERE`) are read from where they lie, and links to
them lead to these pages.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

from qspace_nd import __version__

HERE = Path(__file__).parent
ROOT = HERE.parent
ELSEWHERE = {
    "data": "data/README.md",
    "results": "benchmarks/RESULTS.md",
    "measuring": "benchmarks/README.md",
    "changes": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "citing": "CITATION.md",
}
"""The pages of the site, by name, that are files elsewhere in the repository."""

project = "qspace-nd"
author = copyright = "the qspace-nd developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
source_suffix = {".md": "markdown"}
default_role = "code"  # of single backticks in docstrings
html_theme = "furo"
html_title = "qspace-nd"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = "friendly", "monokai"

autodoc_typehints = "none"  # docstrings say it, with shapes and units
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_rtype = False

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")


def site_link(target: str, anchor: str, folder: Path) -> str:
    """Give the site's link in place of the repository's, of a page that lies in `folder`."""
    path = (folder / target).resolve()
    for page, file in ELSEWHERE.items():
        if path == ROOT / file:
            return f"{page}.md{anchor}"
    if path == ROOT / "README.md":
        return f"index.md{anchor}"
    return os.path.relpath(path, HERE) + anchor


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Take a page's text from where it lies, with the site's links in it."""
    path = ROOT / ELSEWHERE[page] if page in ELSEWHERE else HERE / f"{page}.md"
    text = path.read_text(encoding="utf-8")
    source[0] = _LINK.sub(lambda m: site_link(m[1], m[2] or "", path.parent), text)


def setup(app: Sphinx) -> None:
    """Hook the reading of pages."""
    app.connect("source-read", read_page)
