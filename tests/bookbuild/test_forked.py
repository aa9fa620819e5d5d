"""Work in several processes gives what work in one gives."""

import os
import sys

import pytest

from bookbuild.typst import forked
from bookbuild.typst.forked import spread


def test_results_come_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for count in (1, 2, 3):
        monkeypatch.setattr(forked, "cores", lambda count=count: count)
        assert spread(lambda n: n * n, range(20)) == [n * n for n in range(20)]
        assert spread(str, []) == []


def test_work_is_spread_where_the_system_can_fork(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forked, "cores", lambda: 2)
    places = set(spread(lambda n: os.getpid(), range(8)))
    if sys.platform.startswith("linux"):
        assert os.getpid() not in places
    assert set(spread(lambda n: os.getpid(), range(7))) == {os.getpid()}


def test_an_error_comes_through_and_the_next_work_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forked, "cores", lambda: 2)

    def fail(number: int) -> int:
        raise ValueError(f"wrong {number}")

    with pytest.raises(ValueError, match="wrong"):
        spread(fail, range(8))
    assert spread(abs, [-1] * 8) == [1] * 8
