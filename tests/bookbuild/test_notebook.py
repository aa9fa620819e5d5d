"""The helpers of a chapter's cells, outside a kernel."""

import json
from pathlib import Path

import matplotlib
import numpy
import pytest

from bookbuild import notebook


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(notebook.ROOT, str(tmp_path))
    monkeypatch.setenv(notebook.CHECKPOINTS, str(tmp_path / "checkpoints"))
    monkeypatch.delenv(notebook.DEVICE, raising=False)


def test_the_device_is_the_readers_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert notebook.device() == "cpu"
    monkeypatch.setenv(notebook.DEVICE, "cuda")
    assert notebook.device() == "cuda"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        ("word", "'word'"),
        (numpy.float64(0.25), "0.25"),
        (numpy.array(3), "3"),
    ],
)
def test_glue_records_the_value_and_shows_nothing(
    monkeypatch: pytest.MonkeyPatch, value: object, text: str
) -> None:
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append((a, k)))
    notebook.glue("a-loss", value)
    prefix = "application/papermill.record/"
    metadata = {"scrapbook": {"name": "a-loss", "mime_prefix": prefix}}
    expected = ({f"{prefix}text/plain": text},), {"raw": True, "metadata": metadata}
    assert shown == [expected]


def test_glue_refuses_an_array_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("IPython.display.display", lambda *_, **__: None)
    with pytest.raises(ValueError, match="size 1"):
        notebook.glue("a-losses", numpy.zeros(3))


def test_figures_have_the_books_style(monkeypatch: pytest.MonkeyPatch) -> None:
    formats = []
    target = "matplotlib_inline.backend_inline.set_matplotlib_formats"
    monkeypatch.setattr(target, lambda *a, **k: formats.append((a, k)))
    with matplotlib.rc_context():
        matplotlib.use("agg")
        fig, axes = notebook.figure(1, 2, width=5, height=2, sharey=True)
        assert formats == [
            (("svg",), {"metadata": {"Date": None}, "bbox_inches": None})
        ]
        assert tuple(fig.get_size_inches()) == (5, 2)
        assert len(axes) == 2
        assert axes[0].get_shared_y_axes().joined(*axes)
        drawn = [axes[0].plot([0, 1])[0].get_color() for _ in notebook.COLORS]
        assert drawn == notebook.COLORS
        assert fig.get_facecolor()[3] == 0
        assert matplotlib.rcParams["svg.hashsalt"] == "extracted"
        matplotlib.pyplot.close(fig)


def luminance(color: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_first_colours_stand_out_on_white_and_on_dark() -> None:
    assert len(set(notebook.COLORS)) == 7
    for color in notebook.COLORS[:4]:
        assert 1.05 / (luminance(color) + 0.05) >= 3 or color == "#CC79A7"
        assert (luminance(color) + 0.05) / (luminance("#121212") + 0.05) >= 3


def test_a_recorded_run_is_read_from_the_repository(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "bpe.json").write_text(json.dumps({"seconds": 1.5, "cpu": "größe"}))
    assert notebook.record("bpe") == {"seconds": 1.5, "cpu": "größe"}


def test_an_unknown_run_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        notebook.record("zzz")
    folder = tmp_path / "benchmarks" / "results"
    assert str(raised.value) == (
        f"no recorded run 'zzz' in {folder}; make it with: nox -s bench -- zzz"
    )


def test_a_checkpoint_is_made_once_and_whole(tmp_path: Path) -> None:
    calls = []

    def train(directory: Path) -> None:
        calls.append(directory)
        (directory / "weights").write_text("w")

    place = notebook.checkpoint("story", train)
    assert place == tmp_path / "checkpoints" / "story"
    assert (place / "weights").read_text() == "w"
    assert notebook.checkpoint("story", train) == place
    assert len(calls) == 1
    assert calls[0] != place
    assert list(place.parent.iterdir()) == [place]


def test_a_training_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        notebook.checkpoint("story", fail)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_of_two_processes_the_faster_one_wins(tmp_path: Path) -> None:
    place = tmp_path / "checkpoints" / "story"

    def slow(directory: Path) -> None:
        (directory / "weights").write_text("slow")
        place.mkdir()
        (place / "weights").write_text("fast")

    assert notebook.checkpoint("story", slow) == place
    assert (place / "weights").read_text() == "fast"


def test_without_the_build_a_checkpoint_goes_to_the_users_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(notebook.CHECKPOINTS)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    place = notebook.checkpoint("story", lambda directory: None)
    assert place == tmp_path / ".cache" / "extracted" / "checkpoints" / "story"
