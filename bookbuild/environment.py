"""The surroundings of a chapter's kernel: variables, threads, hardware."""

import contextlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)
DROPPED = ("PYTHONDONTWRITEBYTECODE", "MPLBACKEND", "PYTHONSTARTUP")


def variables(
    root: Path, checkpoints: Path, device: str, threads: int
) -> Mapping[str, str]:
    """This process's variables, with what makes a run repeatable and finds the book."""
    kept = {k: v for k, v in os.environ.items() if k not in DROPPED}
    tool = str(Path(__file__).resolve().parents[1])
    paths = [str(root), tool, *kept.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **kept,
        **dict.fromkeys(THREADS, str(threads)),
        "BOOK_ROOT": str(root),
        "BOOK_CHECKPOINTS": str(checkpoints),
        "BOOK_DEVICE": device,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(filter(None, paths))),
        # Waiting threads of a loop would otherwise hold a core that another program
        # needs: on a busy machine small steps of PyTorch took twenty times as long.
        "GOMP_SPINCOUNT": "1000",
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": "0",
        "TOKENIZERS_PARALLELISM": "false",
    }


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware(device: str) -> str:
    """The machine in a few words."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    words = f"{cores()} cores, {model}"
    if device.startswith("cuda"):
        import torch

        words += f", {torch.cuda.get_device_name(torch.device(device))}"
    return words
