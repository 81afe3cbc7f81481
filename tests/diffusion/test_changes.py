from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.changes import CHANGES, SIZES, Alteration, Change, find_change
from qspace_nd.diffusion.tensor import tissue_features
from qspace_nd.errors import InputError
from tests.diffusion.test_tensor import TABLE, signals

MEANS = np.linspace(0.5, 2, len(TABLE.bvals)).astype(np.float32)


def altered(change: Change) -> np.ndarray:
    """How log b=0, log mean diffusivity and FA of a fibre change."""
    before = signals(1.7e-3, 0.4e-3, 1.0, (1, 2, 0))
    after = Alteration(change, TABLE, MEANS)(before / MEANS) * MEANS
    return (tissue_features(after, TABLE) - tissue_features(before, TABLE))[0]


def test_a_change_moves_what_it_names_and_nothing_else():
    np.testing.assert_allclose(altered(Change("", t2=0.2)), [0.2, 0, 0], atol=2e-3)
    np.testing.assert_allclose(altered(Change("", md=-0.3)), [0, -0.3, 0], atol=2e-3)
    b0, md, fa = altered(Change("", fa=-0.3))
    assert abs(b0) < 2e-3
    assert abs(md) < 2e-3
    assert fa < -0.1


def test_noise_stays_as_it_is():
    rng = np.random.default_rng(0)
    before = signals(1.7e-3, 0.4e-3, 1.0, (1, 2, 0)).repeat(50, axis=0)
    noisy = before + 0.02 * rng.normal(size=before.shape).astype(np.float32)
    change = Alteration(Change("", t2=0.2), TABLE, np.ones(len(TABLE.bvals), np.float32))
    moved = change(noisy) - noisy
    assert (moved[:, TABLE.b0].std(axis=1) < 1e-5).all()  # the same of all b=0 volumes


def test_components_have_their_sign_and_the_usual_size():
    assert find_change("t2=+, fa=-") == Change("t2=+, fa=-", t2=SIZES["t2"], fa=-SIZES["fa"])
    assert find_change("demyelination") is CHANGES["demyelination"]
    assert CHANGES["restricted"].describe() == "lower diffusivity"
    assert find_change("t2=+,md=+,fa=-").describe() == CHANGES["demyelination"].describe()


def test_every_named_change_has_a_source_and_changes_something():
    for name, change in CHANGES.items():
        assert name == change.name
        assert change.source
        assert change.describe()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("demyelinaton", "did you mean demyelination?"),
        ("", "There is no change ''"),
        ("t2=up", "'t2=up' is not one of t2, md and fa"),
        ("t2=+,t2=-", "'t2=-' is not one of"),
        ("adc=-", "'adc=-' is not one of"),
        ("t2=+,", "'' is not one of"),
    ],
)
def test_what_is_no_change_is_refused_in_words(text, says):
    with pytest.raises(InputError, match=says):
        find_change(text)
