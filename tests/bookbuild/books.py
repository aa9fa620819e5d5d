"""Small synthetic books for the tests of the tool."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from bookbuild.errors import BookError


def code(source: str, tags: Iterable[str] | str = (), **options: Any) -> str:
    """A code cell: `code("x = 1", ["export"])`, `code("x", rtol=0.1)`."""
    tags = [tags] if isinstance(tags, str) else list(tags)
    settings = {**({"tags": tags} if tags else {}), **options}
    block = f"---\n{yaml.safe_dump(settings, allow_unicode=True)}---\n"
    return f"```{{code-cell}} python\n{block if settings else ''}{source}\n```\n"


def page(*pieces: str, title: str = "A page", **settings: Any) -> str:
    """A chapter: front matter from `settings`, the title, then `pieces` in order."""
    front = yaml.safe_dump({"chapter": settings}, allow_unicode=True)
    head = f"---\n{front}---\n\n" if settings else ""
    return head + "\n".join([f"# {title}\n", *pieces])


def contents(names: Iterable[str]) -> str:
    """A `_toc.yml` with one part that lists `names` in order."""
    entries = [{"file": name} for name in names]
    toc: dict[str, Any] = {"format": "jb-book", "root": "index"}
    if entries:
        toc["parts"] = [{"caption": "Part", "chapters": entries}]
    return yaml.safe_dump(toc, sort_keys=False, allow_unicode=True)


def write_book(
    root: Path,
    files: Mapping[str, str | bytes],
    toc: Iterable[str] | str | None = None,
) -> Path:
    """Write `book/NAME.md` for each file, byte for byte, and `_toc.yml`.

    An index page is added unless given. `toc` is the text of `_toc.yml`, or the
    chapters in order; by default they stand as in `files`. Returns `root`.
    """
    for name, text in {"index": "# The book\n", **files}.items():
        path = root / "book" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    if not isinstance(toc, str):
        toc = contents(
            name for name in (files if toc is None else toc) if name != "index"
        )
    (root / "_toc.yml").write_bytes(toc.encode())
    return root


def refusal(call: Callable[[], object]) -> list[str]:
    """The problems, as a person reads them, with which `call` refuses to work."""
    with pytest.raises(BookError) as refused:
        call()
    return [str(problem) for problem in refused.value.problems]
