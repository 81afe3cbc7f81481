"""How to cite: people, programs and reports are told one title, one version and one paper."""

from __future__ import annotations

import re
from pathlib import Path

from qspace_nd._version import __version__
from qspace_nd.evaluation.methods import references_of
from tests.evaluation.pages import ball, null_of, person_of

ROOT = Path(__file__).parents[1]
MASK = ball((24, 20, 22))


def text_of(name: str) -> str:
    """A file's text, its lines joined, without what Markdown quotes with."""
    return re.sub(r"\s+", " ", re.sub(r"^> ", "", (ROOT / name).read_text("utf-8"), flags=re.M))


def told(key: str) -> list[str]:
    """All values of a key of CITATION.cff, in order."""
    found = re.findall(rf"^ *{key}: (.*)$", (ROOT / "CITATION.cff").read_text("utf-8"), re.M)
    return [value.strip("\"'") for value in found]


def entries(text: str) -> dict[str, str]:
    return dict(re.findall(r"^(@\w+\{[^,]+),\n(.*?)^\}$", text, re.M | re.S))


def test_the_version_is_that_of_the_package() -> None:
    assert told("version") == [__version__]
    assert f"Computer software, version {__version__}" in text_of("CITATION.md")


def test_title_paper_and_people_are_those_for_programs() -> None:
    text = text_of("CITATION.md")
    software, paper, preprint = told("title")
    assert paper == preprint
    for name in (software, paper):
        assert text.count(name) == 2  # in words and as BibTeX
    assert f"https://doi.org/{told('doi')[0]}" in text
    assert told("url")[0] in text
    assert f"{told('start')[0]}–{told('end')[0]}" in text
    names = re.findall(r"family-names: (\w+), given-names: ([\w. ]+)", text_of("CITATION.cff"))
    people = names[: len(names) // 2]
    assert people == names[len(names) // 2 :]
    initials = ["".join(re.findall(r"[A-Z]", given)) for _, given in people]
    assert ", ".join(f"{name} {of}" for (name, _), of in zip(people, initials, strict=True)) in text
    assert " and ".join(f"{name}, {given}" for name, given in people) in text


def test_the_entries_are_those_of_a_report() -> None:
    person = person_of(null_of(4, MASK), MASK, facts={})
    written = entries((ROOT / "CITATION.md").read_text("utf-8"))
    reported = entries(references_of(person))
    assert list(written) == ["@inproceedings{vasilev2020", f"@misc{{qspace-nd-{__version__}"]
    assert {key: reported[key] for key in written} == written


def test_the_year_is_that_of_the_licence() -> None:
    (year,) = re.findall(r"Copyright \(c\) (\d+),", (ROOT / "LICENSE").read_text("utf-8"))
    assert f"version {__version__}, {year}." in text_of("CITATION.md")
    assert f"year = {{{year}}}" in text_of("CITATION.md")
