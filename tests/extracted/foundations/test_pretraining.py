"""Pretraining: resumes to the bit, survives kills, agrees with plain loops."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from extracted.foundations import pretraining
from extracted.foundations.data import PackedBatches
from extracted.foundations.gpt import GPT, GPTConfig, flops_per_token
from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    generate_probes,
    generate_stories,
    probe_accuracy,
)
from extracted.foundations.pretraining import (
    HeldOut,
    TrainConfig,
    Trainer,
    atomic_directory,
    checkpoints,
    device_peak,
    load_model,
    main,
    next_token_loss,
    prepare_text,
    read_log,
    sample_text,
    save_model,
    score_probes,
)
from extracted.foundations.tokenizer import Tokenizer

SHAPE = GPTConfig(64, 16, 2, 2, 16, bias=False, qk_norm=True)
BYTES = Tokenizer([], special_tokens=[END_OF_TEXT])
posix = pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")


def make(directory=None, *, dropout=0.1, batch_size=2, **options):
    config = TrainConfig(
        **{"steps": 20, "warmup": 3, "save_every": 0, "evaluate_every": 0} | options
    )
    shape = replace(SHAPE, dropout=dropout)
    tokens = torch.randint(64, (500,), generator=torch.Generator().manual_seed(1))
    return Trainer(
        GPT(shape, generator=torch.Generator().manual_seed(0)),
        PackedBatches(tokens, batch_size=batch_size, seq_len=16, seed=3),
        config,
        directory=directory,
    )


def same(a, b):
    """Whether two nests of dictionaries, lists and tensors agree to the bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def same_run(a, b):
    weights = same(a.model.state_dict(), b.model.state_dict())
    return weights and same(a.state(), b.state())


# ------------------------------------------------------------------ resuming


def test_ten_steps_and_ten_more_are_twenty(tmp_path):
    """With dropout, Muon, AdamW, a schedule and batches from a shuffled order."""
    whole = make()
    whole.run()
    first = make(tmp_path)
    first.run(10)
    first.save()
    torch.rand(7)  # what happens in between must not matter
    second = make(tmp_path)
    assert second.resume()
    assert same_run(first, second)
    second.run()
    assert same_run(whole, second)


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(1, 11), max_size=3, unique=True))
def test_any_number_of_stops_changes_nothing(tmp_path_factory, stops):
    whole = make(steps=12, accumulate=2)
    whole.run()
    folder = tmp_path_factory.mktemp("run")
    for stop in [*sorted(stops), 12]:
        life = make(folder, steps=12, accumulate=2)
        life.resume()
        life.run(stop)
        life.save()
    assert same_run(whole, life)


def test_running_in_parts_is_running_at_once():
    whole = make()
    whole.run()
    parts = make()  # seeds what the dropout of `whole` has drawn from
    for stop in (3, 4, 19, 20, 30):
        parts.run(stop)
    assert same_run(whole, parts)


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path):
    assert not make().resume()
    assert not make(tmp_path / "nothing").resume()


def test_a_life_without_a_checkpoint_leaves_no_records(tmp_path):
    make(tmp_path, log_every=1).run(3)
    second = make(tmp_path, log_every=1)
    assert not second.resume() and second.history == []
    second.run(2)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2]


def test_resume_refuses_another_configuration_but_not_another_pace(tmp_path):
    make(tmp_path, save_every=5).run(5)
    with pytest.raises(ValueError, match=r"rate is 0\.1, in .* it is 0\.005"):
        make(tmp_path, rate=0.1).resume()
    assert make(tmp_path, log_every=1, save_every=3).resume()


def test_state_holds_no_code(tmp_path):
    """It is read without running pickled code, the weights by safetensors alone."""
    trainer = make(tmp_path)
    trainer.run(2)
    path = trainer.save()
    assert sorted(p.name for p in path.iterdir()) == ["model.safetensors", "state.pt"]
    torch.load(path / "state.pt", weights_only=True)
    weights = load_file(path / "model.safetensors")
    assert torch.equal(
        weights["blocks.0.mlp.up.weight"], trainer.model.blocks[0].mlp.up.weight
    )


# -------------------------------------------------------------------- saving


def test_a_block_that_fails_leaves_no_directory(tmp_path):
    path = tmp_path / "step-1"
    with pytest.raises(RuntimeError), atomic_directory(path) as scratch:
        (scratch / "half").write_text("half")
        raise RuntimeError
    assert not path.exists() and checkpoints(tmp_path) == []
    with atomic_directory(path) as scratch:
        (scratch / "whole").write_text("whole")
    assert [p.name for p in path.iterdir()] == ["whole"]
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_one_checkpoint_is_kept_and_the_old_goes_last(tmp_path, monkeypatch):
    trainer = make(tmp_path, save_every=5)
    trainer.run(10)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000010"]

    def broken(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(pretraining.torch, "save", broken)
    with pytest.raises(OSError, match="No space"):
        trainer.run(15)
    again = make(tmp_path)
    assert again.resume() and again.num_steps == 10


def test_saving_twice_and_into_another_run(tmp_path):
    trainer = make(tmp_path)
    trainer.run(4)
    assert trainer.save() == trainer.save()
    stranger = make(tmp_path)
    stranger.run(6)
    with pytest.raises(FileExistsError, match="of another run"):
        stranger.save()
    with pytest.raises(ValueError, match="directory"):
        make().save()


LIFE = """
import os, signal, sys, torch
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from test_pretraining import make
from extracted.foundations import pretraining
torch.set_num_threads(int(sys.argv[4]))  # the same bits need the same threads
trainer = make(Path(sys.argv[1]), save_every=5)
trainer.resume()
if sys.argv[2] == "kill":  # in the middle of the save of step 10
    save = torch.save
    def half(state, file):
        save(state, file)
        if trainer.num_steps == 10:
            os.truncate(file, os.path.getsize(file) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    torch.save = half
trainer.run()
print(trainer.num_steps)
"""


@posix
def test_kill_9_in_the_middle_of_a_save(tmp_path):
    """At most the steps since the last save are lost, and nothing of their result."""
    command = [sys.executable, "-c", LIFE, str(tmp_path)]
    here = str(Path(__file__).parent)
    threads = str(torch.get_num_threads())
    killed = subprocess.run([*command, "kill", here, threads], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000005"]
    assert (tmp_path / "step-00000010.part" / "state.pt").exists()
    resumed = make(tmp_path, save_every=5)
    assert resumed.resume() and resumed.num_steps == 5
    resumed.run()
    whole = make(save_every=5)
    whole.run()
    assert same_run(whole, resumed)
    assert [r["step"] for r in resumed.history] == [5, 10, 15, 20]
    losses = [record["loss"] for record in whole.history]
    assert [record["loss"] for record in resumed.history] == losses


# ----------------------------------------------------------------------- log


def test_the_log_has_a_line_for_each_record(tmp_path):
    trainer = make(tmp_path, log_every=4, evaluate_every=6)
    trainer.evaluation = lambda model: {"training": float(model.training)}
    trainer.run(13)
    log = [json.loads(x) for x in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == trainer.history
    assert [r["step"] for r in log] == [4, 6, 8, 12, 13]
    assert [r.get("training") for r in log] == [None, 0.0, None, 0.0, None]
    assert log[-1]["tokens"] == 13 * 2 * 16
    assert trainer.model.training


def test_a_torn_line_and_lines_of_a_lost_future_are_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 5}\n{"step": 10}\n{"step": 15}\n{"st')
    assert read_log(path, last_step=10) == [{"step": 5}, {"step": 10}]
    assert read_log(tmp_path / "none", last_step=10) == []


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(tmp_path):
    trainer = make(tmp_path, save_every=5)
    trainer.run(5)
    with torch.no_grad():
        trainer.model.norm.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="nan by step 10"):
        trainer.run()
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000005"]


class Terminal:
    def __init__(self, answer):
        self.answer, self.text = answer, ""

    def isatty(self):
        return self.answer

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("answer", [True, False])
def test_progress_is_for_terminals(monkeypatch, answer):
    stream = Terminal(answer)
    monkeypatch.setattr(sys, "stderr", stream)
    make(log_every=10).run()
    assert ("step 20/20" in stream.text) == answer
    assert stream.text.endswith("\n") == answer and stream.text.count("\n") <= 1


# ---------------------------------------------------------------------- step


def test_accumulation_is_the_larger_batch():
    whole, parts = make(dropout=0.0, batch_size=4), make(dropout=0.0, accumulate=2)
    for _ in range(3):
        assert torch.allclose(whole.step(), parts.step(), atol=1e-5)
    assert whole.num_tokens == parts.num_tokens
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)  # Muon works in bfloat16


def test_gradients_are_clipped_and_rates_follow_the_schedule():
    trainer = make(dropout=0.0, max_norm=1e-3)
    rates = []
    for _ in range(20):
        trainer.step()
        grads = [p.grad for p in trainer.model.parameters()]
        assert torch.cat([g.flatten() for g in grads]).norm() <= 1.001e-3
        group = trainer.optimizer.param_groups[0]
        rates.append(group["lr"] / group["initial_lr"])
    assert rates[0] < rates[2] == max(rates) == pytest.approx(1)
    assert 0 < rates[-1] < 0.2


def test_it_learns_what_it_sees_again_and_again():
    trainer = make(steps=120, dropout=0.0, batch_size=8)
    trainer.batches = PackedBatches(torch.arange(64), batch_size=8, seq_len=16)
    history = trainer.run()
    assert history[0]["loss"] > 2 and history[-1]["loss"] < 1


def test_another_loss():
    trainer = make()
    trainer.loss = lambda model, ids, targets: model(ids).square().mean()
    trainer.run(5)
    assert trainer.history[-1]["loss"] < 1


def test_compiled_equals_eager(monkeypatch):
    from functools import partial

    eager = make(dropout=0.0)
    eager.run(3)
    quick = partial(torch.compile, backend="eager")  # no C++ compiler needed
    monkeypatch.setattr(pretraining.torch, "compile", quick)
    compiled = make(dropout=0.0, compile=True)
    compiled.run(3)
    assert list(compiled.model.state_dict()) == list(eager.model.state_dict())
    for a, b in zip(eager.model.parameters(), compiled.model.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"accumulate": 0}, {"decay": 1.5}, {"decay": -0.1}]
)
def test_bad_configurations_are_refused(options):
    (name, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{name}.*{value}"):
        TrainConfig(**options)


# ---------------------------------------------------------------- evaluation


def test_next_token_loss_is_torchs():
    model = GPT(SHAPE)
    ids = torch.randint(64, (3, 17))
    mine = next_token_loss(model, ids[:, :-1], ids[:, 1:])
    logits = model(ids[:, :-1]).transpose(1, 2)
    assert torch.allclose(mine, F.cross_entropy(logits, ids[:, 1:]))


def test_held_out_counts_bytes_and_weighs_windows():
    """é is two bytes, the separator none; five windows in batches of two."""
    text = BYTES.encode("aé" * 6, allowed_special="all")
    ids = torch.tensor([*text, BYTES.vocab_size - 1, *text])
    model = GPT(replace(SHAPE, vocab_size=BYTES.vocab_size)).eval()
    judge = HeldOut(ids, BYTES, seq_len=7, batch_size=2)
    assert (judge.num_windows, judge.num_tokens, judge.num_bytes) == (5, 35, 34)
    with torch.no_grad():
        logits = model(ids[:35].view(5, 7))
    loss = F.cross_entropy(logits.flatten(0, 1), ids[1:36]).item()
    found = judge(model)
    assert found["validation_loss"] == pytest.approx(loss, rel=1e-5)
    bits = loss * 35 / 34 / math.log(2)
    assert found["bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    assert HeldOut(ids, BYTES, seq_len=7, max_windows=2).num_windows == 2


def test_probe_scores_equal_one_candidate_at_a_time():
    probes = generate_probes(12)
    merged = Tokenizer.train(generate_stories(40), 300, special_tokens=[END_OF_TEXT])
    shape = replace(SHAPE, vocab_size=merged.vocab_size, max_seq_len=96)
    model = GPT(shape, generator=torch.Generator().manual_seed(0)).eval()
    log_prob = score_probes(model, merged, probes, batch_size=5)
    start = merged.special_tokens[END_OF_TEXT]
    for probe in probes:
        for candidate in probe.candidates:
            tail = merged.encode(candidate)
            ids = [start, *merged.encode(probe.prompt), *tail]
            ids = torch.tensor([ids[-97:]])
            with torch.no_grad():
                table = model(ids[:, :-1]).log_softmax(dim=-1)[0]
            picked = table.gather(1, ids[0, 1:, None])[-len(tail) :].sum()
            assert log_prob(probe.prompt, candidate) == pytest.approx(
                picked.item(), abs=1e-4
            )
    assert 0 <= probe_accuracy(log_prob, probes) <= 1


def test_cpu_peak_is_measured_and_gpus_are_looked_up(monkeypatch):
    peak = device_peak()
    a = torch.ones(512, 512)
    start = time.perf_counter()
    for _ in range(4):
        a @ a
    assert peak > 0.2 * 4 * 2 * 512**3 / (time.perf_counter() - start)
    for name, expected in {
        "NVIDIA H100 80GB HBM3": 989e12,
        "NVIDIA H100 PCIe": 756e12,
        "NVIDIA L40S": 362e12,
        "NVIDIA L4": 121e12,
        "NVIDIA A100-SXM4-40GB": 312e12,
    }.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, n=name: n)
        assert device_peak("cuda") == expected


def test_mfu_is_tokens_times_flops_over_peak(monkeypatch):
    monkeypatch.setattr(pretraining, "device_peak", lambda device: 1e9)
    flops = flops_per_token(SHAPE, 16)
    plain = make()
    trainer = Trainer(plain.model, plain.batches, plain.config, flops=flops)
    record = trainer.run(10)[-1]
    assert record["mfu"] == pytest.approx(record["tokens_per_second"] * flops / 1e9)
    assert plain.run(10)[-1]["mfu"] == 0


# -------------------------------------------------------------- model on disk


def test_saved_model_is_loaded_as_it_was(tmp_path):
    shape = replace(SHAPE, vocab_size=BYTES.vocab_size, dropout=0.3)
    model = GPT(shape).eval()
    save_model(model, BYTES, tmp_path)
    names = ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names
    loaded, tokenizer = load_model(tmp_path)
    ids = torch.tensor([tokenizer.encode("hello")])
    assert torch.equal(model(ids), loaded(ids))  # nothing is dropped out
    assert loaded.config == shape and loaded.readout.weight is loaded.tokens.weight


def test_samples_repeat_and_may_be_longer_than_the_context():
    model = GPT(replace(SHAPE, vocab_size=BYTES.vocab_size)).eval()
    text = sample_text(model, BYTES, "ab", count=40, seed=1)
    assert text.startswith("ab") and text == sample_text(
        model, BYTES, "ab", count=40, seed=1
    )
    assert text != sample_text(model, BYTES, "ab", count=40, seed=2)


# -------------------------------------------------------------- command line


def write_stories(path, count=60):
    path.write_text(END_OF_TEXT.join(generate_stories(count)), "utf-8")
    return path


ARGUMENTS = [
    *("--tokenizer", "bytes", "--steps", "6", "--batch-size", "2"),
    *("--seq-len", "32", "--evaluate-every", "0"),
]


def test_documents_are_divided_and_a_single_one_is_cut(tmp_path):
    from extracted.foundations.data import TokenFile

    def texts(directory):
        for split in ("train", "validation"):
            yield BYTES.decode(TokenFile(directory / f"{split}.npy")[:].tolist())

    text = write_stories(tmp_path / "many.txt")
    prepare_text(text, BYTES, tmp_path)
    train, held_out = (t.split(END_OF_TEXT)[:-1] for t in texts(tmp_path))
    assert sorted(train + held_out) == sorted(generate_stories(60))
    assert 0 < len(held_out) < len(train)
    one = tmp_path / "one.txt"
    one.write_text("0123456789" * 10)
    prepare_text(one, BYTES, tmp_path)
    train, held_out = texts(tmp_path)
    assert train == "0123456789" * 9 + END_OF_TEXT
    assert held_out == "0123456789" + END_OF_TEXT


def test_command_line_trains_samples_and_resumes(tmp_path, capsys):
    text = write_stories(tmp_path / "stories.txt")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for out in (whole, parts):
        assert main(["--text", str(text), "--out", str(out), *ARGUMENTS]) == 0
        found = capsys.readouterr().out
        assert "bits per byte" in found and len(found) > 200
    a, b = (load_model(out)[0].state_dict() for out in (whole, parts))
    assert same(a, b)  # a seed is all that a run needs
    assert load_model(whole)[0].config.max_seq_len == 32
    (whole / "model.safetensors").unlink()
    assert main(["--out", str(whole), "--resume"]) == 0
    assert same(load_model(whole)[0].state_dict(), b)


def test_seconds_become_steps(tmp_path, capsys):
    text = write_stories(tmp_path / "stories.txt")
    out = tmp_path / "run"
    command = ["--text", str(text), "--out", str(out), *ARGUMENTS, "--seconds", "1"]
    assert main(command) == 0
    steps = json.loads((out / "run.json").read_text())["steps"]
    assert steps >= 1
    assert json.loads((out / "log.jsonl").read_text().splitlines()[-1])["step"] == steps


def test_ctrl_c_keeps_the_last_checkpoint(tmp_path, capsys, monkeypatch):
    text = write_stories(tmp_path / "stories.txt")
    out = tmp_path / "run"
    command = ["--text", str(text), "--out", str(out), *ARGUMENTS, "--save-every", "2"]
    step = Trainer.step

    def interrupted(self):
        if self.num_steps == 5:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "step", interrupted)
    assert main(command) == 130
    assert "--resume" in capsys.readouterr().err
    assert [p.name for p in checkpoints(out)] == ["step-00000004"]
    monkeypatch.setattr(Trainer, "step", step)
    assert main(["--out", str(out), "--resume"]) == 0


def test_bad_command_lines_are_refused(tmp_path, capsys):
    text = write_stories(tmp_path / "stories.txt")
    (tmp_path / "run.json").write_text("{}")
    for command, message in (
        (["--text", "nothing.txt"], "name a text file"),
        ([], "name a text file"),
        (["--resume", "--out", str(tmp_path / "no")], "no run to resume"),
        (["--text", str(text), "--out", str(tmp_path)], "holds a run"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err


def test_a_text_that_is_too_short_is_an_error_without_a_traceback(tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("Too short.")
    command = [sys.executable, "-m", "extracted.foundations.pretraining"]
    command += ["--text", str(text), "--out", str(tmp_path / "run"), *ARGUMENTS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_help_runs_as_a_module():
    command = [sys.executable, "-m", "extracted.foundations.pretraining", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--text" in done.stdout and "--matrix-rate" in done.stdout
