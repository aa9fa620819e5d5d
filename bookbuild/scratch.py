"""Temporary directories that say whose they are, so that a crash leaves none."""

import contextlib
import os
import shutil
import socket
import time
from pathlib import Path

FORGOTTEN = 7 * 24 * 3600.0


def owned() -> str:
    """The start of the names of this process's temporary directories."""
    return f".bookbuild-{socket.gethostname()}-{os.getpid()}-"


def sweep(directory: Path) -> None:
    """Remove temporary directories that dead processes left behind."""
    if not directory.is_dir():
        return
    here = f".bookbuild-{socket.gethostname()}-"
    for path in directory.glob(".bookbuild-*-*-*"):
        with contextlib.suppress(OSError):
            pid = path.name.rsplit("-", 2)[1]
            dead = path.name.startswith(here) and pid.isdigit() and not _alive(int(pid))
            if dead or time.time() - path.stat().st_mtime > FORGOTTEN:
                remove_tree(path)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
