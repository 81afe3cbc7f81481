from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qspace_nd.model import rows as healthy_module
from qspace_nd.model.rows import Healthy, Piece, collect, draw, hold_out, spread

# Rows hold their own number, so that what became of each is seen.


def scans_of(lengths: dict[str, list[int]]) -> list[Healthy]:
    """Scans of so many rows each, by subject."""
    scans, start = [], 0
    for subject, own in lengths.items():
        for length in own:
            rows = np.arange(start, start + length, dtype=np.float32)[:, None]
            scans.append(Healthy(subject, rows))
            start += length
    return scans


def rows_of(pieces: list[Piece]) -> list[float]:
    return [row for piece in pieces for row in piece.rows[piece.start : piece.stop, 0].tolist()]


def rows_drawn(pieces: list[Piece], chosen: list[np.ndarray]) -> list[float]:
    return [row for some in collect(pieces, chosen) for row in some[:, 0].tolist()]


# --- Who is held out


@settings(deadline=None)
@given(st.integers(1, 12), st.floats(0.01, 0.99), st.integers(0, 2**32 - 1))
def test_whole_subjects_are_held_out(subjects: int, share: float, seed: int) -> None:
    scans = scans_of({f"{number}": [2, 1] for number in range(subjects)})
    training, validation = hold_out(scans, share, seed)
    assert sorted(rows_of(training) + rows_of(validation)) == list(range(3 * subjects))
    assert rows_of(training)
    assert rows_of(validation)
    if subjects > 1:
        trained_on = {piece.subject for piece in training if len(piece)}
        held_out = {piece.subject for piece in validation if len(piece)}
        assert not trained_on & held_out
        assert abs(len(held_out) - subjects * share) <= 1
    assert rows_of(hold_out(scans, share, seed)[0]) == rows_of(training)


@settings(deadline=None)
@given(st.integers(2, 50), st.integers(0, 20), st.floats(0.01, 0.99))
def test_with_one_subject_its_last_rows_are_held_out(rows: int, more: int, share: float) -> None:
    training, validation = hold_out(scans_of({"ann": [rows, more]}), share, 0)
    total = rows + more
    assert rows_of(training) + rows_of(validation) == list(range(total))
    assert 1 <= len(rows_of(validation)) <= total - 1
    assert abs(len(rows_of(validation)) - total * share) <= 1


def test_the_seed_chooses_who_is_held_out() -> None:
    scans = scans_of({f"{number}": [2] for number in range(20)})
    assert len({tuple(rows_of(hold_out(scans, 0.25, seed)[1])) for seed in range(5)}) > 1


# --- Which rows are drawn

SCANS = {"ann": [300, 100], "bob": [200], "cid": [20]}


def pieces_of(lengths: dict[str, list[int]]) -> list[Piece]:
    return [Piece(s.subject, s.rows, 0, len(s.rows)) for s in scans_of(lengths)]


def test_where_there_is_room_for_all_rows_all_are_taken_in_their_order() -> None:
    pieces = pieces_of(SCANS)
    for most in (620, 10_000):
        assert rows_drawn(pieces, draw(pieces, most, 0)) == list(range(620))


@pytest.mark.parametrize(
    ("most", "numbers"),
    [
        (60, [10, 10, 20, 20]),  # as many of each subject and of each of their scans
        (120, [25, 25, 50, 20]),  # what cid lacks, ann and bob give
        (520, [200, 100, 200, 20]),
        (1, [1, 0, 0, 0]),
    ],
)
def test_rows_are_drawn_evenly_from_subjects_and_from_their_scans(
    most: int, numbers: list[int]
) -> None:
    pieces = pieces_of(SCANS)
    assert [len(chosen) for chosen in draw(pieces, most, 0)] == numbers


def test_rows_are_drawn_at_random_once_each_and_by_the_seed() -> None:
    pieces = pieces_of(SCANS)
    first, again, other = (rows_drawn(pieces, draw(pieces, 300, seed)) for seed in (0, 0, 1))
    assert len(set(first)) == len(first) == 300
    assert first == again != other
    assert sorted(first) == first


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(1, 60))
def test_rows_that_are_spread_are_every_so_manieth_of_all(lengths: list[int], most: int) -> None:
    pieces = pieces_of({"ann": [*lengths, 1]})
    total = sum(lengths) + 1
    expected = list(range(total))[:: -(-total // most)]
    assert rows_drawn(pieces, spread(pieces, most)) == expected


def test_rows_are_collected_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healthy_module, "ROWS", 7)
    pieces = pieces_of(SCANS)
    chosen = draw(pieces, 100, 3)
    expected = [
        rows[numbers, 0].tolist()
        for rows, numbers in zip([piece.rows[:] for piece in pieces], chosen, strict=True)
    ]
    assert rows_drawn(pieces, chosen) == [row for own in expected for row in own]
