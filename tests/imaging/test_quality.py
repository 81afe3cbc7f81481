from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import ScanError
from qspace_nd.imaging.quality import require_signal


def test_a_channel_that_varies_in_the_last_row_alone_is_not_constant() -> None:
    values = np.ones((4096 + 3, 2), np.float32)
    values[::2, 0] = 2.0
    values[-1, 1] = 3.0
    require_signal(Path("s.nii"), values, np.arange(2))
    values[-1, 1] = 1.0
    with pytest.raises(ScanError, match=r"constant over its mask: 1 \(always 1\)"):
        require_signal(Path("s.nii"), values, np.arange(2))


def test_a_mean_that_negative_values_keep_from_being_positive_is_refused() -> None:
    values = np.full((4096 + 3, 2), -1.0, np.float32)
    values[-1] = 4098.0
    with pytest.raises(ScanError, match=r"has a mean of 0 over its mask; expected a positive one"):
        require_signal(Path("s.nii"), values, np.arange(2))
    values[-1] = 4099.0
    (warning,) = require_signal(Path("s.nii"), values, np.arange(2))
    assert "8196 values inside its mask (1e+02 %) are negative" in warning
    assert require_signal(Path("s.nii"), -values[::-1] + 4099.0, np.arange(2)) == ()
