"""The one place that writes: whole files or nothing, and only what changed."""

import os
import tempfile
from pathlib import Path

from bookbuild.errors import BookError, Problem

REMEDY = "free disk space, or give yourself write permission there; nothing was lost"


def write_atomic(path: Path, data: str | bytes) -> bool:
    """Make `path` hold `data`, whole or not at all; False when it held it already.

    Text is written as UTF-8, its line ends as they are. A crash, an interrupt or a full
    disk leaves the old file as it was. Raises `BookError` naming the file when it
    cannot be written.
    """
    content = data.encode("utf-8") if isinstance(data, str) else data
    scratch: str | None = None
    try:
        if path.is_file() and path.read_bytes() == content:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, _mode(path))
        os.replace(scratch, path)
        scratch = None
    except OSError as error:
        raise _refused(path, "written", error) from error
    finally:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)
    return True


def remove(path: Path) -> None:
    """Delete a file. Raises `BookError` naming it when that is refused."""
    try:
        path.unlink()
    except OSError as error:
        raise _refused(path, "deleted", error) from error


def _refused(path: Path, what: str, error: OSError) -> BookError:
    message = f"cannot be {what}: {error.strerror or error}"
    return BookError(Problem(path.as_posix(), 0, message, REMEDY))


def _mode(path: Path) -> int:
    """The permissions of the file that is replaced, or those of any new file."""
    if path.is_file():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
