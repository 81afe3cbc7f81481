from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.errors import ArrayError
from qspace_nd.registration.guard import Guard


def test_residuals_like_the_controls_are_trusted_and_far_larger_ones_are_not():
    guard = Guard(np.array([0.08, 0.09, 0.085, 0.1]))
    assert guard.trusts(0.1)
    assert guard.trusts(0.01)
    assert not guard.trusts(0.2)
    assert not guard.trusts(float("nan"))


def test_a_control_that_went_wrong_does_not_make_others_trusted():
    residuals = np.array([0.08, 0.09, 0.085, 0.1, 0.09])
    limit = Guard(residuals).limit
    assert Guard(np.append(residuals, 0.7)).limit < 1.2 * limit
    assert not Guard(np.append(residuals, 0.7)).trusts(0.7)


def test_controls_that_differ_widely_widen_what_is_trusted():
    assert Guard(np.array([0.1, 0.2, 0.15, 0.25])).limit > 1.35 * 0.175


def test_the_sentence_says_what_was_found_and_what_to_do():
    sentence = Guard(np.array([0.1, 0.1])).sentence("patient.nii.gz", 0.52, "anisotropy")
    assert sentence.startswith("patient.nii.gz does not lie well in the template")
    assert (
        "its anisotropy differs by 0.52" in sentence and "0.10" in sentence and "0.14" in sentence
    )
    assert "look at the picture" in sentence


@pytest.mark.parametrize("wrong", [[], [[0.1]], [np.nan, 0.1], [-1.0]])
def test_what_are_no_residuals_is_refused(wrong):
    with pytest.raises(ArrayError, match="residuals of the controls"):
        Guard(np.array(wrong, dtype=np.float64))
