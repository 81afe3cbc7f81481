"""Methods and references as files beside the pages, of the text that the pages show."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping

from markupsafe import Markup

from qspace_nd._version import __version__
from qspace_nd.evaluation.page import Person, environment

_WIDTH = 100  # characters of a line


def passage_of(person: Person) -> str:
    """What was done to a person's scan, for a paper, and what is cited, in Markdown."""
    page = _filled("methods.html", person)
    paragraphs = [Markup(part).striptags() for part in page.split("</p>")]
    return "\n\n".join(
        textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
        for text in paragraphs
        if text
    )


def references_of(person: Person) -> str:
    """The works that a person's page cites, this software among them, as BibTeX."""
    return _filled("references.bib", person)


def methods_of(passages: Mapping[str, str]) -> str:
    """The methods of a cohort, in Markdown: once for all people who were treated alike.

    Parameters
    ----------
    passages : mapping of str to str
        The passage of each person, by name.
    """
    alike: dict[str, list[str]] = {}
    for name, passage in passages.items():
        alike.setdefault(passage, []).append(f"`{name}`")
    parts = ["# Methods, for a paper"]
    for passage, names in alike.items():
        parts += [passage] if len(alike) == 1 else [f"## {', '.join(names)}", passage]
    return "\n\n".join(parts) + "\n"


def together_cited(references: Iterable[str]) -> str:
    """Each entry of several BibTeX files, once, in the order in which they come."""
    entries = [entry.strip() for text in references for entry in re.split(r"\n(?=@)", text)]
    return "\n".join(dict.fromkeys(entries)) + "\n"


def _filled(template: str, person: Person) -> str:
    """A part of a person's page by itself, as `report/person.html` includes it."""
    return (
        environment()
        .get_template(template)
        .render(
            person=person,
            facts=person.facts,
            people=0 if person.healthy is None else len(person.healthy.masses),
            registration=person.registration,
            version=__version__,
        )
    )
