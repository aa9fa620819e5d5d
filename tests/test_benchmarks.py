"""The benchmark on real GSM8K: its quick run, and its questions, without a network."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from extracted.foundations.generation import Completion
from extracted.foundations.language_modeling import DownloadError
from extracted.reasoning.answers import WordProblem, extract_answer

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "benchmarks" / "gsm8k.py"
DATA = os.environ.get("EXTRACTED_DATA")
NOWHERE = "http://127.0.0.1:9"  # a proxy that nobody runs


def offline(environment: dict[str, str], home: Path) -> dict[str, str]:
    proxies = dict.fromkeys(("http_proxy", "https_proxy"), NOWHERE)
    kept = {k: v for k, v in environment.items() if k != "EXTRACTED_DATA"}
    return kept | proxies | {"XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def gsm8k(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))  # where its harness is
    spec = importlib.util.spec_from_file_location("gsm8k_benchmark", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_the_quick_run_climbs_all_rungs_offline(tmp_path: Path) -> None:
    output = tmp_path / "gsm8k.json"
    run = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--output", str(output)],
        env=offline(dict(os.environ), tmp_path) | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, Any] = json.loads(output.read_text("utf-8"))
    rungs = ["answer alone", "steps", "vote", "verifier"]
    assert [record["rung"] for record in found["runs"]] == rungs
    assert [*found["accuracy"]] == rungs
    count = found["questions"]["test"]
    for record in found["runs"]:
        low, high = record["interval"]
        assert low <= record["right"] / count <= high
        assert record["tokens"] > 0 and record["seconds"] > 0
        assert ("p_value" in record) == (record["rung"] != rungs[0])
    assert found["runs"][-1]["readings"] > 0  # the verifier had something to learn
    assert not (tmp_path / "extracted").exists()  # nothing was fetched


def solution(text: str) -> Completion:
    return Completion([1], [0.0], [0.0], "stop", text)


def test_answers_that_mean_the_same_vote_together(gsm8k: ModuleType) -> None:
    texts = ["#### 7", "#### 1,000", "so 7", "#### $1000", "####", "#### 1000.0"]
    row = [solution(text) for text in texts]
    assert gsm8k.read_answers(row) == ["7", "1,000", "7", "1,000", "", "1,000"]
    question = WordProblem("How many?", "1000", "")
    assert gsm8k.winners_right([row], [question]) == [True]
    seven = [[5.0, 1.0, 5.0, 1.0, 1.0, 1.0]]
    assert gsm8k.winners_right([row], [question], seven) == [False]
    silent = [[solution("I do not know")]]
    assert gsm8k.winners_right(silent, [question]) == [False]


def test_no_step_keeps_a_mark_of_the_calculator(gsm8k: ModuleType) -> None:
    problem = WordProblem("?", "8", "2*3=<<2*3=6>>6\n6+2=<<6+2=8>>8 in all")
    assert gsm8k.with_steps(problem, None) == "\n2*3=6\n6+2=8 in all\n#### 8"


def test_without_network_or_data_it_says_what_to_do(
    gsm8k: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in offline({}, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    with pytest.raises(DownloadError, match="put the file by hand at"):
        gsm8k.real_setting()


@pytest.mark.skipif(not DATA, reason="EXTRACTED_DATA names no folder with gsm8k")
def test_the_real_setting_keeps_its_parts_apart(
    gsm8k: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert DATA is not None
    folder = tmp_path / "models" / gsm8k.MODEL / "main"
    gsm8k.quick_setting(folder)  # a tiny model in the place of the published one
    (tmp_path / "gsm8k").symlink_to(Path(DATA, "gsm8k").resolve())
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path))
    setting = gsm8k.real_setting()
    parts = setting.train, setting.held_out, setting.test
    assert len(setting.train) + len(setting.held_out) == 7473
    assert len(setting.test) == 1319
    assert 300 < len(setting.held_out) < 450
    train, held_out, test = ({q.question for q in part} for part in parts)
    assert not train & held_out and not (train | held_out) & test
    for question in [*setting.train, *setting.held_out, *setting.test]:
        target = gsm8k.with_steps(question, None)
        assert "<<" not in target and ">>" not in target
        assert extract_answer(target) == question.answer
