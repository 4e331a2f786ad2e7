"""Compiled functions as plain callables, without the dispatcher that would check the types of each call."""

from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any, Final

_ARRAY_FUNCTIONS: Final = Lock()


@cache
def compiled(function: Any, types: tuple[Any, ...]) -> Callable[..., Any]:
    """Return a function compiled by numba for one signature, or loaded from numba's cache.

    Calls are not checked: an argument of another type or memory layout gives wrong values.

    Args:
        function: a function decorated by ``njit``.
        types: numba's types of the arguments.
    """
    _import_array_functions()
    return function.compile(types)


def _import_array_functions() -> None:
    """Import numba's array functions without SciPy's linear algebra, which takes a fifth of the CPU time at startup.

    Numba imports SciPy to check that it is installed, and again for each function that uses it; no function of this
    package does. Numba's check is disabled only during this import.
    """
    from numba.np import linalg

    with _ARRAY_FUNCTIONS:
        if (check := getattr(linalg, "ensure_blas", None)) is None:
            return  # this release of numba has no such check
        linalg.ensure_blas = lambda: None
        try:
            from numba.np import arraymath

            arraymath.ensure_blas = check  # pyright: ignore[reportPrivateImportUsage] (restores the imported name)
        finally:
            linalg.ensure_blas = check
