"""What a chapter's own cells may use: glue, figures, recorded runs, checkpoints.

Exported cells never import this module; the package `extracted` does not know the book.
"""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Okabe and Ito's palette without yellow: distinct for every common kind of colour
# blindness, and dark enough on white. https://jfly.uni-koeln.de/color/
COLORS = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#595959",
]

STYLE: dict[str, Any] = {
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": "#222222",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "font.size": 10.0,
    "grid.color": "#999999",
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "extracted",
}

ROOT = "BOOK_ROOT"
CHECKPOINTS = "BOOK_CHECKPOINTS"
DEVICE = "BOOK_DEVICE"


def device() -> str:
    """The device that the reader chose (`--device`), `"cpu"` unless told otherwise."""
    return os.environ.get(DEVICE, "cpu")


def glue(name: str, value: object) -> None:
    """Record `value` under `name` for MyST-NB's `{glue:text}` role; shows nothing."""
    from IPython.display import display

    if hasattr(value, "item"):  # a zero-dimensional array or tensor prints its type
        value = value.item()
    prefix = "application/papermill.record/"
    display(  # type: ignore[no-untyped-call]
        {prefix + "text/plain": repr(value)},
        raw=True,
        metadata={"scrapbook": {"name": name, "mime_prefix": prefix}},
    )


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = 6.4,
    height: float = 3.2,
    **more: Any,
) -> tuple[Any, Any]:
    """`plt.subplots` in the book's style: SVG, the shared palette, no background.

    `width` and `height` are in inches. Further keywords go to `plt.subplots`.
    """
    import matplotlib.pyplot as plt
    from cycler import cycler
    from matplotlib_inline import backend_inline

    set_formats: Any = backend_inline.set_matplotlib_formats
    set_formats("svg", metadata={"Date": None}, bbox_inches=None)
    style: Any = {**STYLE, "axes.prop_cycle": cycler(color=COLORS)}
    plt.rcParams.update(style)
    return plt.subplots(rows, columns, figsize=(width, height), **more)


def record(name: str) -> Any:
    """The recorded run `benchmarks/results/NAME.json`: figures, hardware, versions.

    Raises `FileNotFoundError` with the command that makes it when there is none.
    """
    root = Path(os.environ.get(ROOT) or Path(__file__).parents[1])
    folder = root / "benchmarks" / "results"
    for place in (folder, Path(__file__).parent / "records"):  # the latter in a wheel
        if (place / f"{name}.json").is_file():
            return json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
    raise FileNotFoundError(
        f"no recorded run {name!r} in {folder}; make it with: nox -s bench -- {name}"
    )


def checkpoint(name: str, make: Callable[[Path], None]) -> Path:
    """The directory of checkpoint `name`; `make(directory)` makes it if nobody has.

    The book's build hands checkpoints from chapter to chapter; a reader who opens a
    later chapter alone gets it made here, once, in the user's cache.
    """
    root = Path(
        os.environ.get(CHECKPOINTS)
        or Path.home() / ".cache" / "extracted" / "checkpoints"
    )
    place = root / name
    if not place.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}-") as scratch:
            made = Path(scratch, name)
            made.mkdir()
            make(made)
            try:
                os.replace(made, place)
            except OSError:
                if not place.is_dir():  # else another process was faster
                    raise
    return place
