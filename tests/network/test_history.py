from __future__ import annotations

import json

import pytest

from qspace_nd.network.history import History


def test_a_history_survives_json() -> None:
    history = History(60, 40, [(20, 3.5, 4.0), (40, 2.0, 2.5), (60, 1.5, 2.75)], [0.25, 0.0], 1)
    assert History.from_json(json.loads(json.dumps(history.to_json()))) == history
    assert history.validation_loss == 2.5


def history_of(losses: list[float]) -> History:
    looks = [(10 * (i + 1), loss, loss) for i, loss in enumerate(losses)]
    return History(10 * len(losses), 0, looks, [], 0)


def test_a_loss_is_still_falling_where_its_last_tenth_matters() -> None:
    flat = [15.0, *[5.0] * 18]
    assert history_of([*flat, 4.8]).still_falling
    assert history_of([*flat, 4.8]).late_fall == pytest.approx(0.2 / 10.2)
    assert not history_of([*flat, 4.95]).still_falling
    assert not history_of([*flat, 6.0]).still_falling
    assert not history_of([5.0]).still_falling
