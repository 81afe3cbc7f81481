"""The methods of a paper: the page's own text, told once for all who were treated alike."""

from __future__ import annotations

import re
from html import unescape

from qspace_nd._version import __version__
from qspace_nd.evaluation.methods import methods_of, passage_of, references_of, together_cited
from qspace_nd.evaluation.page import Person, page_of
from tests.evaluation.pages import ball, null_of, person_of

MASK = ball((24, 20, 22))


def person(**others: object) -> Person:
    return person_of(null_of(4, MASK), MASK, **others)


def words(text: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", text)).split())


def keys(references: str) -> list[str]:
    return re.findall(r"^@\w+\{([^,]+),$", references, re.M)


def test_the_text_is_that_of_the_page() -> None:
    one = person()
    page = words(page_of(one))
    for part in passage_of(one).split("\n\n"):
        assert words(part) in page
    assert words(references_of(one)) in page


def test_it_says_what_was_done() -> None:
    facts = {"Score": "latent-kl", "Toward": "t2=+ & <md>"}
    passage = " ".join(passage_of(person(facts=facts)).split())
    assert "given a novelty, latent-kl." in passage
    assert "The change that was looked for is t2=+ & <md>." in passage  # nothing is escaped
    assert "p = (k + 1) / (4 + 1)" in passage
    assert "Phipson" in passage
    bare = passage_of(person(healthy=None, facts={}, registration=None))
    assert "registered" not in bare
    assert "Phipson" not in bare
    assert all(len(line) <= 100 for line in passage_of(person()).splitlines())


def test_only_what_is_cited_is_among_the_references() -> None:
    software = f"qspace-nd-{__version__}"
    compared = ["vasilev2020", software, "kingma2014", "phipson2010", "bullmore1999"]
    assert keys(references_of(person())) == compared
    assert keys(references_of(person(healthy=None))) == compared[:3]


def test_people_who_were_treated_alike_are_told_of_once() -> None:
    alike, other = passage_of(person()), passage_of(person(facts={"Score": "latent-kl"}))
    once = methods_of({"a": alike, "b": alike})
    assert once == f"# Methods, for a paper\n\n{alike}\n"
    both = methods_of({"a": alike, "b": other, "c": alike})
    assert both.count(alike) == both.count(other) == 1
    assert re.findall(r"^## (.*)$", both, re.M) == ["`a`, `c`", "`b`"]


def test_each_work_is_among_the_references_once_and_each_version_of_the_software() -> None:
    several = [person(healthy=None), person(), person(facts={"SoftwareVersion": "0.0.9"})]
    found = keys(together_cited(map(references_of, several)))
    assert len(found) == len(set(found)) == 6
    assert {f"qspace-nd-{__version__}", "qspace-nd-0.0.9", "bullmore1999"} <= set(found)
    alone = together_cited([references_of(several[1])])
    assert keys(alone) == keys(references_of(several[1]))
