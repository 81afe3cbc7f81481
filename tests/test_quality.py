from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import ScanError
from qspace_nd.quality import _summary, require_signal


@pytest.mark.parametrize("rows", [1, 15, 16, 4096, 4096 + 16, 2 * 4096 + 5])
def test_the_summary_of_blocks_is_that_of_all_rows(rows: int) -> None:
    values = np.random.default_rng(0).normal(1.0, 5.0, (rows, 7)).astype(np.float32)
    least, most, mean = _summary(values)
    np.testing.assert_array_equal(least, values.min(axis=0))
    np.testing.assert_array_equal(most, values.max(axis=0))
    assert mean == pytest.approx(values.mean(dtype=np.float64), rel=1e-12)


def test_a_channel_that_varies_in_the_last_row_alone_is_not_constant() -> None:
    values = np.ones((4096 + 3, 2), np.float32)
    values[::2, 0] = 2.0
    values[-1, 1] = 3.0
    require_signal(Path("s.nii"), values, np.arange(2))
    values[-1, 1] = 1.0
    with pytest.raises(ScanError, match=r"constant over its mask: 1 \(always 1\)"):
        require_signal(Path("s.nii"), values, np.arange(2))
