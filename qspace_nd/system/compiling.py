"""Compiling functions of arrays, which then run without Python's lock.

What is compiled is kept until the file of the function changes; a change of what it takes from
other files, of this one too, is not noticed: touch the function's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., object])


def compiled(function: Function) -> Function:
    """Compile a function when it is first called, and keep the result where that is possible."""
    return _compile(function)


def inlined(function: Function) -> Function:
    """Likewise, but as a part of whatever compiled function calls it, for inner loops.

    It can make no arrays: references to those it is given are not counted (`_nrt`), which would
    take longer than the work of a short function.
    """
    return _compile(function, forceinline=True, _nrt=False)


def _compile(function: Function, **options: Any) -> Function:
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        compiled: Function = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # there is no folder that the cache may be written to
        compiled = numba.njit(**options)(function)
    return compiled
