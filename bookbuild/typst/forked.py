"""The same work for many items, on all cores where the system can fork."""

import multiprocessing
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from bookbuild.environment import cores

Item = TypeVar("Item")
Done = TypeVar("Done")

FEW = 4  # items, for which a second process does not pay
_work: Callable[[Any], Any] | None = None


def spread(work: Callable[[Item], Done], items: Iterable[Item]) -> list[Done]:
    """`[work(item) for item in items]`, in processes that share what is in memory.

    The results must be picklable; what `work` changes elsewhere is lost. macOS can fork
    too, but its libraries do not survive it.
    """
    global _work
    waiting = list(items)
    workers = min(cores(), len(waiting) // FEW)
    if workers < 2 or not sys.platform.startswith("linux"):
        return [work(item) for item in waiting]
    _work = work
    try:
        with multiprocessing.get_context("fork").Pool(workers) as pool:
            return pool.map(_call, waiting, chunksize=1)
    finally:
        _work = None


def _call(item: Any) -> Any:
    assert _work is not None
    return _work(item)
