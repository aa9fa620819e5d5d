"""Fixtures of the tool's tests: `make_book` writes a small book."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import books
import hypothesis
import pytest

# A busy machine is slow, not wrong.
hypothesis.settings.register_profile("book", deadline=None, max_examples=50)
hypothesis.settings.load_profile("book")


@pytest.fixture
def code() -> Callable[..., str]:
    """`code(source, tags, **options)` writes a code cell."""
    return books.code


@pytest.fixture
def make_book(tmp_path: Path) -> Callable[..., Path]:
    """`make_book({"part/name": text}, toc)`; calling it again edits the same book."""
    root = tmp_path / "repository"

    def make(
        files: Mapping[str, str | bytes], toc: Iterable[str] | str | None = None
    ) -> Path:
        return books.write_book(root, files, toc)

    return make
