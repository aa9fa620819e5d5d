"""What every benchmark shares: where it ran, fair timings, one JSON file a run."""

import argparse
import datetime
import gc
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def environment(*packages: str) -> dict[str, Any]:
    """Hardware, operating system, versions and load: what a figure depends on."""
    found = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "gpu": _gpu_name(),
        "os": platform.platform(terse=True),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "load_at_start": round(os.getloadavg()[0], 2)
        if hasattr(os, "getloadavg")
        else None,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    return {key: value for key, value in found.items() if value is not None}


def compare(
    candidates: Mapping[str, Callable[[], Callable[[], object]]], repeats: int
) -> dict[str, dict[str, Any]]:
    """Seconds of each candidate: of the clock, and of the processor in this process.

    `candidates` maps a name to a function that prepares a run, untimed, and returns
    what to time. Every round runs each candidate once, so that a slow minute of the
    machine falls on all of them. The two times differ when other programs take the
    processor away (`wall` is greater) or when threads run at once (`cpu` is).
    """
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, prepare in candidates.items():
            times[name].append(timed(prepare()))
    return {name: summary(pairs) for name, pairs in times.items()}


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of one run: of the clock, and of the processor."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def summary(times: list[tuple[float, float]]) -> dict[str, Any]:
    """Median and spread of repeated timings, to four significant digits."""
    walls, cpus = zip(*times, strict=True)
    return {"wall": _spread(walls), "cpu": _spread(cpus), "repeats": len(times)}


def _spread(seconds: tuple[float, ...]) -> dict[str, float]:
    figures = {
        "median_s": statistics.median(seconds),
        "min_s": min(seconds),
        "max_s": max(seconds),
    }
    return {name: digits(value) for name, value in figures.items()}


def digits(value: float) -> float:
    """`value` to the four significant digits that a timing deserves at most."""
    return float(f"{value:.4g}")


def main(
    name: str, run: Callable[[bool], dict[str, Any]], packages: tuple[str, ...] = ()
) -> int:
    """Command line of a benchmark: run it, write `benchmarks/results/NAME.json`.

    `--quick` runs a small version and prints it; only `--output` makes it a file.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="small, and print only")
    parser.add_argument("--output", type=Path, help="where to write the JSON")
    arguments = parser.parse_args()
    result = {
        "command": f"python benchmarks/{name}.py" + " --quick" * arguments.quick,
        "environment": environment(*packages),
        **run(arguments.quick),
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    output = arguments.output
    if output is None and not arguments.quick:
        output = RESULTS / f"{name}.json"
    if output is None:
        print(text, end="")
        return 0
    output.parent.mkdir(parents=True, exist_ok=True)
    scratch = output.with_name(f".{output.name}.partial")
    scratch.write_text(text, encoding="utf-8", newline="\n")
    os.replace(scratch, output)
    print(f"wrote {output}")
    return 0


def progress(message: str) -> None:
    """One line on standard error, which leaves standard output to the result."""
    print(message, file=sys.stderr, flush=True)


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if "model name" in line
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())
