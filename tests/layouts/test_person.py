from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.person import Person

TABLE = (
    "participant_id\tage\tsex\nsub-01\t31\tF\nsub-02\t78.5\tmale\nsub-03\tn/a\t?\nsub-04\t90+\tM\n"
)


def files(image: Path, subject: str) -> ScanFiles:
    return ScanFiles(image, None, None, None, subject, subject)


@pytest.mark.parametrize(
    ("subject", "known"),
    [
        ("sub-01", Person(31, "F")),
        ("sub-02", Person(78.5, "M")),
        ("sub-03", Person()),
        ("sub-04", Person(None, "M")),
        ("sub-05", Person()),
    ],
)
def test_a_table_says_who_somebody_is(subject: str, known: Person, tmp_path: Path) -> None:
    (tmp_path / "participants.tsv").write_text(TABLE)
    image = tmp_path / subject / "dwi" / f"{subject}_dwi.nii.gz"
    assert Person.of(files(image, subject)) == known
    plain = tmp_path / "healthy" / f"{subject}.nii.gz"
    assert Person.of(files(plain, subject.removeprefix("sub-"))) == known


def test_no_table_and_a_broken_one_say_nothing(tmp_path: Path) -> None:
    assert Person.of(files(tmp_path / "a.nii.gz", "a")) == Person()
    (tmp_path / "participants.tsv").write_text("who\tage\na\t3\n")
    assert Person.of(files(tmp_path / "a.nii.gz", "a")) == Person()


def test_who_is_outside_the_ages_or_of_another_sex_is_told() -> None:
    healthy = [Person(20, "F"), Person(41, "F"), Person()]
    assert not list(Person(20, "F").unlike(healthy))
    assert list(Person(41.5, "M").unlike(healthy)) == [
        "an age of 42 years (theirs: 20 to 41)",
        "sex M (theirs: F)",
    ]
    assert not list(Person().unlike(healthy))
    assert not list(Person(80, "M").unlike([Person()]))
