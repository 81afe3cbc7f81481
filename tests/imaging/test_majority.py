"""What most scans are like: their protocol and their conditions."""

from __future__ import annotations

import numpy as np
import pytest

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.imaging.conditions import Conditions, usual
from qspace_nd.imaging.majority import protocol_of_most
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, ScanOptions
from qspace_nd.simulation.head import standard_table
from tests.imaging.test_protocol import OWN, STRICT, TABLE, scan_of

HIGHER = GradientTable(2 * TABLE.bvals, TABLE.directions)


@pytest.mark.parametrize("tables", [[HIGHER, TABLE, TABLE], [TABLE, HIGHER, TABLE]])
def test_the_protocol_is_that_of_most_whatever_comes_first(tables: list[GradientTable]) -> None:
    protocol = protocol_of_most([scan_of(table) for table in tables], DEFAULT_OPTIONS)
    assert protocol is not None
    assert protocol.gradients is TABLE


def test_of_as_many_scans_the_first_tell() -> None:
    for first, second in ((TABLE, HIGHER), (HIGHER, TABLE)):
        protocol = protocol_of_most([scan_of(first), scan_of(second)], DEFAULT_OPTIONS)
        assert protocol is not None
        assert protocol.gradients is first


def test_directions_that_can_be_resampled_are_one_protocol_and_strictly_are_not() -> None:
    scans = [scan_of(OWN), scan_of(TABLE), scan_of(TABLE)]
    found = [protocol_of_most(scans, options) for options in (DEFAULT_OPTIONS, STRICT)]
    assert [one.gradients for one in found if one is not None] == [OWN, TABLE]


def test_scans_without_b_values_are_one_protocol_by_their_channels() -> None:
    scans = [scan_of(None, channels=number) for number in (2, 3, 3)]
    protocol = protocol_of_most([*scans, scan_of(TABLE)], DEFAULT_OPTIONS)
    assert protocol is not None
    assert (protocol.volumes, protocol.gradients) == (3, None)


def test_scans_that_have_no_protocol_have_none_in_common() -> None:
    assert protocol_of_most([], DEFAULT_OPTIONS) is None
    alone = scan_of(None, channels=2)
    assert protocol_of_most([alone], ScanOptions(gradients="resample")) is None


def test_how_scans_are_taken_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "qspace_nd")
    other = standard_table(unweighted=2, directions=12)
    protocol_of_most([scan_of(HIGHER), scan_of(TABLE), scan_of(TABLE), scan_of(other)], STRICT)
    protocol_of_most([scan_of(HIGHER), scan_of(TABLE), scan_of(TABLE)], DEFAULT_OPTIONS)
    assert len(caplog.records) == 1


def test_usual_is_what_most_scans_have_of_each_condition() -> None:
    found = usual(
        [
            Conditions((2.0, 2.0, 2.0), 0.07, 3.0, "Siemens Prisma", (0.01, 0.03)),
            Conditions((3.0, 3.0, 3.0), 0.09, 2.89, "SIEMENS Prisma", (0.01, 0.05)),
            Conditions((3.0, 3.0, 3.0), 0.09, None, "GE MR750", (0.02, 0.09)),
        ]
    )
    assert found == Conditions((3.0, 3.0, 3.0), 0.09, 3.0, "Siemens Prisma", (0.01, 0.05))


def test_of_two_scans_the_residual_is_that_of_the_better() -> None:
    pair = [
        Conditions((2.0,) * 3, residual=(low, high)) for low, high in ((0.01, 0.09), (0.0, 0.03))
    ]
    assert usual(pair).residual == (0.0, 0.03)
    assert usual(pair[::-1]).residual == (0.0, 0.03)
    assert np.isfinite(usual(pair).voxel_sizes).all()


def test_what_no_scan_tells_is_not_known() -> None:
    assert usual([Conditions((2.0,) * 3)]) == Conditions((2.0,) * 3)
