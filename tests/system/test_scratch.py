from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qspace_nd.errors import WorkError
from qspace_nd.system import scratch as scratch_module
from qspace_nd.system.scratch import Scratch, SharedScratch

X = np.arange(60, dtype=np.float32).reshape(20, 3)


def test_what_is_kept_is_found_again_by_rows(tmp_path: Path) -> None:
    with Scratch(tmp_path / "model") as scratch:
        mask = np.arange(24).reshape(2, 3, 4) % 5 == 0
        kept_mask, kept, empty = scratch.keep(mask), scratch.keep(X), scratch.keep(X[:0])
        np.testing.assert_array_equal(kept_mask[:], mask)
        for rows in (slice(None), slice(3, 7), slice(18, 99), slice(7, 3), slice(-2, None)):
            np.testing.assert_array_equal(kept[rows], X[rows])
        assert (len(kept), kept.shape, kept[:].dtype) == (20, (20, 3), np.float32)
        assert empty[:].shape == (0, 3)
        assert type(kept[:]) is np.ndarray


def test_an_array_in_any_order_is_kept_as_it_is(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        np.testing.assert_array_equal(scratch.keep(X.T)[:], X.T)


def test_a_change_reaches_the_disk_and_what_is_written_to_rows_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_module, "ROWS", 7)
    with Scratch(tmp_path) as scratch:
        before, kept, after = (scratch.keep(X) for _ in range(3))
        scratch.change(kept, lambda rows: np.multiply(rows, 2, out=rows))
        kept[:][:] = 0
        np.testing.assert_array_equal(kept[:], 2 * X)
        np.testing.assert_array_equal(before[:], X)
        np.testing.assert_array_equal(after[:], X)


def test_a_scratch_file_has_no_name_even_where_its_process_is_killed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
import numpy as np
from qspace_nd.system.scratch import Scratch, SharedScratch
scratch = Scratch(Path(sys.argv[1]) / "model")
scratch.keep(np.ones(1000))
print(os.listdir(sys.argv[1]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_a_work_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scratch(tmp_path / "model") as scratch:

        def full(file: object, start: int, array: np.ndarray) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(scratch_module, "_write", full)
        with pytest.raises(WorkError, match=r"model .*could not be written \(No space left"):
            scratch.keep(X)


@pytest.mark.parametrize("reserves", [True, False])
def test_room_is_of_zeros_on_the_disk_beside_what_is_kept(
    reserves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not reserves:  # as on macOS
        monkeypatch.delattr("os.posix_fallocate")
        monkeypatch.setattr(scratch_module, "_ZEROS", 1000)
    with Scratch(tmp_path) as held:
        before = held.keep(np.arange(7))
        room = held.room((300, 5), np.float32)
        after = held.keep(np.arange(9))
        assert room.shape == (300, 5)
        assert room.dtype == np.float32
        assert not room.any()
        room[:] = 3
        np.testing.assert_array_equal(before[:], np.arange(7))
        np.testing.assert_array_equal(after[:], np.arange(9))
        assert (room == 3).all()
        assert held.room((0, 5), np.float32).shape == (0, 5)


def test_processes_share_arrays_until_who_made_them_has_ended(tmp_path: Path) -> None:
    with SharedScratch(tmp_path) as scratch:
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o700
        theirs = pickle.loads(pickle.dumps(scratch))
        kept = pickle.loads(pickle.dumps(theirs.keep(X)))
        scratch.change(kept, lambda rows: np.multiply(rows, 2, out=rows))
        np.testing.assert_array_equal(kept[3:7], 2 * X[3:7])
    assert not list(tmp_path.iterdir())
    with pytest.raises(WorkError, match=r"does not see the folder .*\.scratch; workers need the"):
        theirs.keep(X)
    assert not list(tmp_path.iterdir())


def test_what_somebody_else_has_put_there_is_not_followed(tmp_path: Path) -> None:
    folder, other = tmp_path / "model", tmp_path / "other"
    for one in (folder, other):
        one.mkdir()
    (other / "mine").touch()
    (folder / ".scratch").symlink_to(other)
    with SharedScratch(folder) as scratch:
        scratch.keep(X)
    assert [path.name for path in other.iterdir()] == ["mine"]
