from __future__ import annotations

import pytest


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is told a user at the terminal."""
    caplog.set_level("INFO", "qspace_nd")
    return caplog
