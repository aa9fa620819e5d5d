"""Writing: whole files or nothing, only what changed; refusals name the file."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from books import refusal
from hypothesis import given
from hypothesis import strategies as st

from bookbuild.files import remove, write_atomic

REMEDY = (
    "hint: free disk space, or give yourself write permission there; nothing was lost"
)


def test_it_writes_a_new_file_and_the_folders_above_it(tmp_path: Path) -> None:
    path = tmp_path / "a b" / "größe" / "file.txt"
    assert write_atomic(path, "eins\nzwei é\n")
    assert path.read_bytes() == "eins\nzwei é\n".encode()
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


def test_it_leaves_a_file_with_the_same_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, "same")
    os.utime(path, (1, 1))
    assert not write_atomic(path, b"same")
    assert path.stat().st_mtime == 1
    assert write_atomic(path, "other")
    assert path.stat().st_mtime > 1


@given(st.binary())
def test_bytes_are_written_as_they_are(tmp_path_factory: object, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes"  # type: ignore[attr-defined]
    write_atomic(path, data)
    assert path.read_bytes() == data


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_a_file_keeps_its_permissions_and_a_new_one_gets_the_usual(
    tmp_path: Path,
) -> None:
    script = tmp_path / "script"
    script.write_text("old")
    script.chmod(0o750)
    write_atomic(script, "new")
    assert script.stat().st_mode & 0o777 == 0o750
    usual = tmp_path / "usual"
    usual.touch()
    write_atomic(tmp_path / "fresh", "")
    assert (tmp_path / "fresh").stat().st_mode == usual.stat().st_mode


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    path = tmp_path / "file" / "below"
    [problem] = refusal(lambda: write_atomic(path, "x"))
    assert problem.startswith(f"{path.as_posix()}: error: cannot be written: ")
    assert problem.endswith(REMEDY)
    assert (tmp_path / "file").read_text() == "here first"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no permission bits")
def test_without_permission_nothing_changes_and_the_file_is_named(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    (folder / "file").write_text("old")
    folder.chmod(0o555)
    script = (  # root may write everywhere, so become nobody
        "import os; from pathlib import Path\n"
        "from bookbuild.files import write_atomic\n"
        "os.chdir(os.environ['FOLDER']); os.geteuid() or os.setuid(65534)\n"
        "write_atomic(Path('file'), 'new')"
    )
    environment = {**os.environ, "FOLDER": str(folder)}
    run = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    message = "file: error: cannot be written: Permission denied\n"
    assert run.returncode == 1
    assert message + REMEDY in run.stderr
    assert (folder / "file").read_text() == "old"
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("stop", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interrupt_leaves_the_old_file_and_no_rest(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    stop: BaseException,
) -> None:
    path = tmp_path / "file"
    write_atomic(path, "old")

    def fail(*_: object) -> None:
        raise stop

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(BaseException) as raised:
        write_atomic(path, "new")
    monkeypatch.undo()
    if isinstance(stop, OSError):
        expected = f"{path.as_posix()}: error: cannot be written: full\n{REMEDY}"
        assert str(raised.value) == expected
    else:
        assert raised.value is stop
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_remove_deletes_or_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    remove(path)
    assert not path.exists()
    [problem] = refusal(lambda: remove(path))
    assert problem.startswith(f"{path.as_posix()}: error: cannot be deleted: ")
