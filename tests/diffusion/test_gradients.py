from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable, name_volumes, shells_of
from qspace_nd.errors import GradientError
from tests.diffusion.tables import table


def test_a_table_survives_json() -> None:
    gradients = table([0, 1.25126, 929.75])
    again = GradientTable.from_json(json.loads(json.dumps(gradients.to_json())))
    np.testing.assert_array_equal(again.bvals, gradients.bvals)
    np.testing.assert_array_equal(again.directions, gradients.directions)


@pytest.mark.parametrize(
    "stored",
    [{}, {"bvals": [0, 1], "directions": [[0, 0, 0]]}, {"bvals": ["x"], "directions": [[0, 0, 1]]}],
)
def test_a_stored_table_that_is_none_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(GradientError, match="stored gradient table"):
        GradientTable.from_json(stored)


def test_b_up_to_50_counts_as_0_and_shells_are_parted_by_gaps_above_50() -> None:
    gradients = table([1000, 50, 1040, 0, 51, 1090, 2000])
    assert gradients.b0.tolist() == [False, True, False, True, False, False, False]
    shells = [shell.tolist() for shell in gradients.shell_volumes()]
    assert shells == [[1, 3], [4], [0, 2, 5], [6]]
    assert gradients.shells() == "2 at b=0, 1 at b=51, 3 at b=1040, 1 at b=2000"


def test_shells_are_parted_whatever_the_order_of_the_volumes() -> None:
    bvals = np.array([700.0, 0, 2000, 740, 5, 1990])
    for order in itertools.permutations(range(6)):
        shells = shells_of(bvals[list(order)])
        found = [sorted(bvals[list(order)][shell]) for shell in shells]
        assert found == [[0, 5], [700, 740], [1990, 2000]]


def test_the_first_of_many_volumes_are_named() -> None:
    assert name_volumes(np.array([3])) == "volume 3 (counted from 0)"
    assert name_volumes(np.array([3, 4]), ["a", "b"]) == "volumes 3 (a), 4 (b) (counted from 0)"
    assert name_volumes(np.arange(9)) == "volumes 0, 1, 2, 3, 4 and 4 more (counted from 0)"
