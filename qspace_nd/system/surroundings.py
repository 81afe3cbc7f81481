"""What a process finds around it, mended where it would stop libraries."""

from __future__ import annotations

import atexit
import os
import tempfile
from pathlib import Path


def require_home() -> None:
    """See to it that there is a home folder, as DIPY asks for one when it is imported.

    In a container a process may run for a user without a name and without HOME: it gets an empty
    folder of its own, for as long as it lasts.
    """
    try:
        Path.home()
    except RuntimeError:
        home = tempfile.TemporaryDirectory(prefix="qspace-nd-", ignore_cleanup_errors=True)
        atexit.register(home.cleanup)
        os.environ["HOME"] = home.name
