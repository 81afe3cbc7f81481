from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qspace_nd.errors import OutputError, WorkError
from qspace_nd.system.writing import replacing, require_writable, together, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "map.nii.gz"
    path.write_text("old")
    return path


# --- replacing


def test_a_new_file_appears_whole_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "map.nii.gz"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert names(path.parent) == ["map.nii.gz"]


def test_readers_see_the_old_file_until_the_block_ends(old: Path) -> None:
    with replacing(old) as temporary:
        temporary.write_text("new")
        assert old.read_text() == "old"
    assert old.read_text() == "new"


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_failing_block_keeps_the_old_file_and_leaves_nothing(
    old: Path, failure: type[BaseException]
) -> None:
    with pytest.raises(failure), replacing(old) as temporary:
        temporary.write_text("half")
        raise failure
    assert old.read_text() == "old"
    assert names(old.parent) == ["map.nii.gz"]


def test_a_failing_write_is_a_work_error_that_names_the_file(old: Path) -> None:
    with (
        pytest.raises(WorkError, match=r"map\.nii\.gz could not be written \(No space left"),
        replacing(old),
    ):
        raise OSError(28, os.strerror(28))
    assert old.read_text() == "old"
    assert names(old.parent) == ["map.nii.gz"]


def test_a_block_that_removes_the_temporary_file_is_a_work_error(old: Path) -> None:
    with pytest.raises(WorkError, match="could not be written"), replacing(old) as temporary:
        temporary.unlink()
    assert old.read_text() == "old"


@pytest.mark.parametrize("place", ["file/below.txt", "x" * 300])
def test_a_place_that_cannot_be_is_a_work_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkError, match="could not be written"), replacing(tmp_path / place):
        pass


def test_the_temporary_name_keeps_the_ending_that_writers_go_by(tmp_path: Path) -> None:
    for name, ending in {"a.nii.gz": ".nii.gz", "b.v2.json": ".json", "c": ""}.items():
        with replacing(tmp_path / name) as temporary:
            assert temporary.name.startswith(f".{name}.")
            assert temporary.name.endswith(ending)
            assert temporary.parent == tmp_path
            temporary.write_text("content")


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "map.nii"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert names(tmp_path) == ["map.nii"]


@pytest.fixture(params=[0o022, 0o077, 0o002])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "map.nii"
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_link_is_replaced_and_what_it_led_to_is_kept(tmp_path: Path, old: Path) -> None:
    link = tmp_path / "link.nii.gz"
    link.symlink_to(old)
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert (link.read_text(), link.is_symlink(), old.read_text()) == ("new", False, "old")


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_kill_in_the_middle_leaves_the_old_file(old: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from qspace_nd.system.writing import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, old).returncode == -signal.SIGKILL
    assert old.read_text() == "old"


@pytest.mark.skipif(sys.platform == "win32", reason="file sizes are limited on POSIX alone")
def test_a_full_disk_is_a_work_error_and_leaves_the_old_file(old: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from qspace_nd.errors import WorkError
from qspace_nd.system.writing import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with replacing(Path(sys.argv[1])) as temporary:
        temporary.write_bytes(bytes(5000))
except WorkError as error:
    print(error)
"""
    assert "could not be written (File too large)" in run_python(code, old).stdout
    assert old.read_text() == "old"
    assert names(old.parent) == ["map.nii.gz"]


# --- write_text


def test_text_is_written_in_utf_8_and_whole(old: Path) -> None:
    write_text(old, "N x-p̄(q̄)\n")
    assert old.read_bytes() == "N x-p̄(q̄)\n".encode()
    assert names(old.parent) == [old.name]
    with pytest.raises(WorkError, match="could not be written"):
        write_text(old / "below", "")


# --- require_writable


def test_the_check_creates_nothing(tmp_path: Path) -> None:
    require_writable([tmp_path / "new" / "er" / "a.nii", tmp_path / "b.nii"], force=False)
    assert names(tmp_path) == []


def test_an_output_that_exists_is_refused_without_force(old: Path) -> None:
    with pytest.raises(OutputError, match=r"map\.nii\.gz exists already; .* --force"):
        require_writable([old], force=False)
    require_writable([old], force=True)
    assert old.read_text() == "old"


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path, force: bool) -> None:
    with pytest.raises(OutputError, match="is a folder; name a file"):
        require_writable([tmp_path], force=force)


def test_a_place_below_a_file_is_refused(old: Path) -> None:
    with pytest.raises(OutputError, match=r"Nothing can be written to .* \(Not a directory\)"):
        require_writable([old / "below.nii"], force=True)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"Nothing can be written to .* \(File name too long\)"):
        require_writable([tmp_path / ("x" * 300)], force=False)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder nobody can write to")
def test_a_folder_that_nothing_can_be_written_to_is_refused() -> None:
    with pytest.raises(OutputError, match="Nothing can be written to /proc"):
        require_writable([Path("/proc/a.nii")], force=False)


# --- What a process that was killed has left


def test_what_was_left_of_a_file_goes_with_the_next_write(old: Path) -> None:
    left = old.with_name(".map.nii.gz.0123abcd.nii.gz")
    strangers = [old.with_name(name) for name in (".map.nii.gz.mine", ".other.nii.gz.0123abcd.gz")]
    for path in (left, *strangers):
        path.write_text("half")
    write_text(old, "new")
    assert not left.exists()
    assert all(path.read_text() == "half" for path in strangers)


def test_a_file_that_is_being_written_is_not_taken_for_left_behind(old: Path) -> None:
    with replacing(old) as first:
        first.write_text("first")
        write_text(old, "second")
        assert first.exists()
    assert old.read_text() == "first"


# --- Several files, or none


def test_files_take_their_place_together(tmp_path: Path) -> None:
    with together():
        write_text(tmp_path / "a", "a")
        write_text(tmp_path / "b", "b")
        assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    assert names(tmp_path) == ["a", "b"]


def test_where_one_fails_none_is_there(tmp_path: Path) -> None:
    with pytest.raises(KeyError), together():
        write_text(tmp_path / "a", "a")
        raise KeyError
    assert names(tmp_path) == []


def test_without_force_only_the_same_may_be_written_again(old: Path) -> None:
    with together(force=False):
        write_text(old, "old")
    with pytest.raises(OutputError, match=r"map\.nii\.gz exists already"), together(force=False):
        write_text(old.with_name("a"), "a")
        write_text(old, "new")
    assert names(old.parent) == ["map.nii.gz"]


# --- Who may read


def test_who_may_read_a_file_stays_as_it_was(old: Path) -> None:
    old.chmod(0o600)
    write_text(old, "new")
    write_text(old.with_name("beside"), "new", like=old)
    assert [stat.S_IMODE(path.stat().st_mode) for path in old.parent.iterdir()] == [0o600] * 2


def test_more_files_take_their_places_together_than_may_be_open(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from qspace_nd.system.writing import together, write_text
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
with together():
    for number in range(200):
        write_text(Path(sys.argv[1]) / f"{number}.txt", "whole")
"""
    done = run_python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert names(tmp_path) == sorted(f"{number}.txt" for number in range(200))
