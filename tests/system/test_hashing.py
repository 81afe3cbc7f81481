from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qspace_nd.system.hashing import hash_of, hash_of_file


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_a_hash_is_that_of_the_whole_however_it_is_divided(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    assert hash_of(parts) == hash_of([whole]) == hash_of([memoryview(whole)])
    assert hash_of([whole]) == hashlib.blake2b(whole, digest_size=16).hexdigest()


def test_a_file_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x" * 3_000_000):
        path.write_bytes(content)
        assert hash_of_file(path) == hash_of([content])


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_of_file(tmp_path / "none")
