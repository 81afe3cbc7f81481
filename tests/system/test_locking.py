from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qspace_nd.errors import OutputError
from qspace_nd.system import locking
from qspace_nd.system.locking import alone, lock_of, remove_unheld

HOLD = """
import sys
from pathlib import Path
from qspace_nd.system.locking import alone
with alone(Path(sys.argv[1]), Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(lock: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lock until it is sent a line, or killed."""
    line = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(line, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_lock_is_waited_for_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "_UNTOLD", 1)
    lock = lock_of(tmp_path / "map.nii.gz")
    assert lock == tmp_path / ".map.nii.gz.lock"
    with holder(lock) as process:

        def end(message: str) -> None:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()

        monkeypatch.setattr(locking._log, "warning", end)  # once it is said, the other may end
        with alone(lock, tmp_path):
            assert lock.exists()
            assert process.wait(timeout=30) == 0
    assert not list(tmp_path.iterdir())


def test_who_holds_a_lock_may_ask_again(tmp_path: Path) -> None:
    lock = tmp_path / "deep" / ".lock"
    with alone(lock, tmp_path), alone(lock, tmp_path):
        assert lock.exists()
    assert not list(tmp_path.iterdir())  # the folder that was made for it has gone too


def test_the_lock_of_a_process_that_was_killed_stops_nobody(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with holder(lock) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert lock.exists()
    with alone(lock, tmp_path):
        pass
    assert not lock.exists()


def test_a_file_that_is_held_is_not_removed(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with holder(lock):
        remove_unheld(lock)
        assert lock.exists()
    remove_unheld(lock)
    assert not lock.exists()


def test_no_lock_can_be_had_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lock = alone(tmp_path / "file" / ".lock", Path("the model"))
    with pytest.raises(OutputError, match="Nothing can be written to the model"), lock:
        pass


def test_a_file_system_without_locks_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int, operation: int) -> None:
        raise OSError(os.strerror(95))

    monkeypatch.setattr(locking.fcntl, "flock", fail)
    with alone(tmp_path / ".lock", Path("the model")):
        pass
    assert "The file system of the model has no locks" in caplog.text


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    lock = tmp_path / ".lock"
    lock.symlink_to(precious)
    with pytest.raises(OutputError, match="Nothing can be written to"), alone(lock, tmp_path):
        pass
    assert precious.read_text() == "mine"
    assert lock.is_symlink()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where none can be made")
def test_a_folder_that_cannot_be_made_is_not_waited_for() -> None:
    lock = alone(Path("/proc/none/.lock"), Path("/proc/none"))
    with pytest.raises(OutputError, match="Nothing can be written to /proc/none"), lock:
        pass
