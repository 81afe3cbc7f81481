from __future__ import annotations

import pickle
from typing import Any

import pytest

from qspace_nd.errors import InputError
from qspace_nd.scores.catalogue import PAPER, find_score
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.workflows.settings import MapSettings


def test_scores_are_kept_in_their_order_and_one_may_be_a_word() -> None:
    assert MapSettings().scores == (DEFAULT_SCORE,)
    assert MapSettings("recon-error").scores == ("recon-error",)
    assert MapSettings(list(PAPER)).scores == PAPER


def test_sidecars_say_the_number_that_was_used_and_how_was_searched() -> None:
    assert MapSettings().facts(10) == {"Neighbours": 10, "Search": "exact"}
    settings = MapSettings(neighbours=3, search="approximate")
    assert settings.facts(10) == {"Neighbours": 3, "Search": "approximate"}
    assert settings.approximate


@pytest.mark.parametrize("score", PAPER)
def test_a_sidecar_says_what_its_score_is(score: str) -> None:
    entry = find_score(score)
    assert MapSettings.facts_of(score) == {
        "Score": score,
        "Symbol": entry.symbol,
        "Equation": entry.equation,
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"scores": ["novel"]}, "novel.*latent-distance"),
        ({"scores": "latent-kl", "search": "approximate"}, "latent-kl"),
        ({"search": "fast"}, "no search 'fast'; choose exact or approximate"),
        ({"neighbours": 0}, "neighbours is 0; 1 or more is wanted"),
        ({"smooth": 0.0}, "smooth is 0.0 mm; a number above 0 is wanted"),
        ({"smooth": float("nan")}, "smooth is nan mm"),
        ({"smooth": float("inf")}, "smooth is inf mm"),
    ],
)
def test_what_cannot_be_mapped_is_refused_at_once(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MapSettings(**wrong)


def test_settings_can_be_sent_to_another_process_and_stay_the_same() -> None:
    settings = MapSettings(["latent-kl", "recon-error"], 5, smooth=6.0)
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError):
        settings.neighbours = 3  # type: ignore[misc]
