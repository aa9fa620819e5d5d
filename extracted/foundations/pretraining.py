# Generated from book/foundations/pretraining.md; do not edit (460c2f5c1512)
"""A training loop that evaluates, logs, survives a kill and resumes to the bit; and the
book's GPT, trained with it.
"""

# %% book/foundations/pretraining.md#imports
import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from itertools import filterfalse, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_model as load_weights
from safetensors.torch import save_model as save_weights
from torch import Tensor, nn

from extracted.foundations.data import (
    PackedBatches,
    TokenFile,
    in_validation,
    pad_batch,
    prepare_story_tokens,
    read_documents,
    write_token_file,
)
from extracted.foundations.gpt import GPT, GPTConfig, flops_per_token
from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    Probe,
    bits_per_byte,
    sample_tokens,
)
from extracted.foundations.optimization import (
    Optimizers,
    build_optimizer,
    clip_gradients,
    warmup_stable_decay,
)
from extracted.foundations.tokenizer import Tokenizer, train_story_tokenizer


# %% book/foundations/pretraining.md#atomic_directory
@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A scratch directory that becomes `path` when the block has ended.

    Killed at any moment, `path` is there in whole or not at all.
    """
    scratch = path.with_name(path.name + ".part")
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    scratch.mkdir(parents=True)
    yield scratch
    for file in scratch.iterdir():
        with file.open("rb+") as stream:
            os.fsync(stream.fileno())  # else only the name may reach the disk
    os.rename(scratch, path)


def checkpoints(directory: Path) -> list[Path]:
    """The whole checkpoints in `directory`, the newest last."""
    return sorted(p for p in directory.glob("step-*") if p.suffix != ".part")


# %% book/foundations/pretraining.md#read_log
def read_log(path: Path, *, last_step: int) -> list[dict[str, float]]:
    """The records of a log up to `last_step`, without a torn last line."""
    records: list[dict[str, float]] = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["step"] <= last_step:
            records.append(record)
    return records


def show_progress(record: dict[str, float], steps: int) -> None:
    """One line that overwrites itself, on a terminal only."""
    if sys.stderr.isatty():
        step, speed = int(record["step"]), record["tokens_per_second"]
        left = (steps - step) * record["tokens"] / step / speed
        line = f"step {step}/{steps}  loss {record['loss']:.3f}"
        line += f"  {speed:,.0f} tokens/s  {left:,.0f} s left"
        end = "\n" if step == steps else "\r"
        print(f"{line:<72}", end=end, file=sys.stderr, flush=True)


# %% book/foundations/pretraining.md#HeldOut
class HeldOut:
    """Judges a model on tokens set aside, cut into windows of `seq_len`.

    Calling it gives the mean loss in nats a token, "validation_loss", and
    "bits_per_byte" of the text; separators count as no bytes.
    """

    def __init__(
        self,
        tokens: TokenFile | Tensor,
        tokenizer: Tokenizer,
        *,
        seq_len: int,
        batch_size: int = 16,
        max_windows: int = 128,
    ) -> None:
        self.batches = PackedBatches(
            tokens, batch_size=batch_size, seq_len=seq_len, shuffle=False
        )
        self.num_windows = min(self.batches.num_windows, max_windows)
        self.num_tokens = self.num_windows * seq_len
        special = set(tokenizer.special_tokens.values())
        text = tokens[1 : self.num_tokens + 1].tolist()
        spelled = tokenizer.decode_bytes(i for i in text if i not in special)
        self.num_bytes = len(spelled)

    @torch.no_grad()
    def __call__(self, model: nn.Module) -> dict[str, float]:
        device, total = next(model.parameters()).device, 0.0
        for first in range(0, self.num_windows, self.batches.batch_size):
            count = min(self.batches.batch_size, self.num_windows - first)
            batch = self.batches.read(first, count)
            loss = next_token_loss(model, *(part.to(device) for part in batch))
            total += loss.item() * count / self.num_windows
        sizes = {"num_tokens": self.num_tokens, "num_bytes": self.num_bytes}
        bits = bits_per_byte(total, **sizes)
        return {"validation_loss": total, "bits_per_byte": bits}


# %% book/foundations/pretraining.md#Batches
class Batches(Protocol):
    """Batches without end that can say where they stand."""

    def __next__(self) -> tuple[Tensor, ...]: ...
    def state_dict(self) -> Any: ...
    def load_state_dict(self, state: Any) -> None: ...


def next_token_loss(
    model: Callable[[Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> Tensor:
    """Mean cross-entropy in nats of targets (B, T) after inputs (B, T)."""
    logits = model(inputs).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


# %% book/foundations/pretraining.md#TrainConfig
@dataclass(frozen=True)
class TrainConfig:
    """How to train: what a run depends on besides its model and data."""

    steps: int = 500
    rate: float = 5e-3  # AdamW's: embeddings, norms, biases
    matrix_rate: float = 0.03  # Muon's: the matrices of the blocks
    weight_decay: float = 0.0
    warmup: int = 20  # steps in which the rates rise
    decay: float = 0.5  # share of the steps, the last, in which they fall
    max_norm: float = 1.0  # of the gradient
    accumulate: int = 1  # batches a step
    seed: int = 0
    device: str = "cpu"
    compile: bool = False
    log_every: int = 10  # steps, as the next two; 0 for the end only
    evaluate_every: int = 100
    save_every: int = 100

    def __post_init__(self) -> None:
        for name in ("steps", "accumulate"):
            if getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f"{name} is {value}; it must be 1 or more")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay {self.decay} is a share, from 0 to 1")


# %% book/foundations/pretraining.md#Trainer
class Trainer:
    """Trains `model` on `batches`: step, evaluate, save, resume, run.

    `loss(model, *batch)` is a mean over the batch; `evaluation(model)` gives
    numbers for the log. With a `directory` the run keeps log.jsonl and its
    checkpoints there; with the `flops` of a token it logs the "mfu". Without
    an `optimizer` it has the one that `config` describes. Seeds torch's
    global generator, from which dropout draws.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        config: TrainConfig,
        *,
        directory: str | Path | None = None,
        loss: Callable[..., Tensor] = next_token_loss,
        evaluation: Callable[[nn.Module], dict[str, float]] | None = None,
        optimizer: Optimizers | None = None,
        flops: int = 0,
    ) -> None:
        torch.manual_seed(config.seed)
        self.on_gpu = torch.device(config.device).type == "cuda"
        self.model = model.to(config.device)
        self.compiled = torch.compile(model) if config.compile else model
        self.batches, self.config = batches, config
        self.loss, self.evaluation = loss, evaluation
        self.directory = None if directory is None else Path(directory)
        self.optimizer = optimizer or build_optimizer(
            model,
            rate=config.rate,
            matrix_rate=config.matrix_rate,
            weight_decay=config.weight_decay,
            dtype=torch.bfloat16 if self.on_gpu else None,
        )
        self.num_steps = self.num_tokens = 0
        self.history: list[dict[str, float]] = []
        self.share_of_peak = flops and flops / device_peak(config.device)
        self.saved: Path | None = None

    def autocast(self) -> torch.autocast:
        """bfloat16 for products of matrices, on a GPU only."""
        kind = torch.device(self.config.device).type
        return torch.autocast(kind, torch.bfloat16, enabled=self.on_gpu)

    def step(self) -> Tensor:
        """Update the weights once; the loss before it, on the device."""
        config = self.config
        decay = round(config.decay * config.steps)
        self.factor = warmup_stable_decay(
            self.num_steps,
            steps=config.steps,
            warmup=min(config.warmup, config.steps - decay),
            decay=decay,
        )
        self.optimizer.set_rate(self.factor)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=config.device)
        for _ in range(config.accumulate):
            batch = [part.to(config.device) for part in next(self.batches)]
            with self.autocast():
                loss = self.loss(self.compiled, *batch) / config.accumulate
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            self.num_tokens += batch[0].numel()
        self.norm = clip_gradients(self.model.parameters(), config.max_norm)
        self.optimizer.step()
        self.num_steps += 1
        return total

    def evaluate(self) -> dict[str, float]:
        """What `evaluation` says of the model, without dropout."""
        if self.evaluation is None:
            return {}
        self.model.eval()
        try:
            with torch.no_grad(), self.autocast():
                return self.evaluation(self.model)
        finally:
            self.model.train()

    def state(self) -> dict[str, Any]:
        """What the next step depends on, besides the weights."""
        cuda = torch.cuda.get_rng_state_all() if self.on_gpu else []
        return {
            "config": asdict(self.config),
            "num_steps": self.num_steps,
            "num_tokens": self.num_tokens,
            "batches": self.batches.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "cuda": cuda,
        }

    def save(self) -> Path:
        """Write a checkpoint, and only then delete the one before it."""
        if self.directory is None:
            raise ValueError("nowhere to save: give the Trainer a directory")
        path = self.directory / f"step-{self.num_steps:08}"
        newest = checkpoints(self.directory)[-1:]
        if newest not in ([], [self.saved]):
            raise FileExistsError(
                f"{newest[0]} is of another run: resume that, or name another "
                "directory"
            )
        if path != self.saved:
            with atomic_directory(path) as scratch:
                save_weights(self.model, str(scratch / "model.safetensors"))
                torch.save(self.state(), scratch / "state.pt")
            self.saved = path
            for old in checkpoints(self.directory)[:-1]:
                shutil.rmtree(old)
        return path

    def resume(self) -> bool:
        """Go on from the newest checkpoint; False where there is none."""
        if self.directory is None:
            return False
        for newest in checkpoints(self.directory)[-1:]:
            self.restore(newest)
        log = self.directory / "log.jsonl"
        if log.exists():
            self.history = read_log(log, last_step=self.num_steps)
            lines = [json.dumps(record) + "\n" for record in self.history]
            log.with_suffix(".part").write_text("".join(lines), "utf-8")
            os.replace(log.with_suffix(".part"), log)
        return self.saved is not None

    def restore(self, path: Path) -> None:
        """Take over a checkpoint; refuse one of another configuration."""
        state = torch.load(path / "state.pt", "cpu", weights_only=True)
        mine, its = asdict(self.config), state["config"]
        for name in set(mine) - FREE_TO_CHANGE:
            if mine[name] != its[name]:
                raise ValueError(
                    f"{name} is {mine[name]}, in {path} it is {its[name]}"
                )
        load_weights(self.model, path / "model.safetensors")
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
        torch.set_rng_state(state["random"])
        if state["cuda"] and self.on_gpu:
            torch.cuda.set_rng_state_all(state["cuda"])
        self.num_steps = state["num_steps"]
        self.num_tokens = state["num_tokens"]
        self.saved = path

    def run(self, until: int | None = None) -> list[dict[str, float]]:
        """Train to step `until`, or to the end; the log so far."""
        config, losses = self.config, list[Tensor]()
        stop = config.steps if until is None else min(until, config.steps)
        every = config.log_every, config.evaluate_every, config.save_every
        start, tokens = time.perf_counter(), self.num_tokens
        while self.num_steps < stop:
            losses.append(self.step())
            n, end = self.num_steps, self.num_steps == config.steps
            log, evaluate, save = (
                end or (k > 0 and n % k == 0) for k in every
            )
            if not (log or evaluate or save or n == stop):
                continue
            loss = torch.stack(losses).mean().item()  # waits for the device
            speed = (self.num_tokens - tokens) / (time.perf_counter() - start)
            self.report(loss, speed, self.evaluate() if evaluate else {})
            if save and self.directory:
                self.save()
            losses.clear()
            start, tokens = time.perf_counter(), self.num_tokens
        return self.history

    def report(
        self, loss: float, speed: float, found: dict[str, float]
    ) -> None:
        """Log the steps since the last record; stop at a loss of NaN."""
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss} by step {self.num_steps}; go back to the "
                "last checkpoint and lower the rates"
            )
        record: dict[str, float] = {
            "step": self.num_steps,
            "tokens": self.num_tokens,
            "loss": loss,
            "norm": float(self.norm),
            "factor": self.factor,
            "tokens_per_second": speed,
            "mfu": speed * self.share_of_peak,
            **found,
        }
        self.history.append(record)
        show_progress(record, self.config.steps)
        if self.directory:
            self.directory.mkdir(parents=True, exist_ok=True)
            log = self.directory / "log.jsonl"
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


FREE_TO_CHANGE = {
    "device",
    "compile",
    "log_every",
    "evaluate_every",
    "save_every",
}


# %% book/foundations/pretraining.md#GPU_PEAKS
# Products of bf16 matrices without sparsity, in 10**12 operations a second,
# from the makers' data sheets; T4 and V100 reach theirs in fp16 only.
GPU_PEAKS = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100": 989,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
    "RTX 3090": 71,
    "T4": 65,
    "V100": 125,
}


def device_peak(device: str = "cpu") -> float:
    """The most floating-point operations a second of `device`.

    Looked up by name for a known GPU; otherwise the fastest of some products
    of matrices, in float32 on a CPU and bfloat16 on a GPU.
    """
    cuda = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else ""
    for known, peak in GPU_PEAKS.items():
        if known in name:
            return peak * 1e12
    n, dtype = (8192, torch.bfloat16) if cuda else (1024, torch.float32)
    a, seconds = torch.ones(n, n, device=device, dtype=dtype), math.inf
    for _ in range(8):
        start = time.perf_counter()
        (a @ a)[0, 0].item()  # .item() waits for the device
        seconds = min(seconds, time.perf_counter() - start)
    return 2 * n**3 / seconds


# %% book/foundations/pretraining.md#save_model
def save_model(
    model: GPT, tokenizer: Tokenizer, directory: str | Path
) -> None:
    """Write config.json, model.safetensors and tokenizer.json, for use."""
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=place) as scratch:
        config = json.dumps(asdict(model.config), indent=2) + "\n"
        Path(scratch, "config.json").write_text(config, "utf-8")
        save_weights(model, str(Path(scratch, "model.safetensors")))
        tokenizer.save(Path(scratch, "tokenizer.json"))
        for file in Path(scratch).iterdir():
            os.replace(file, place / file.name)


def load_model(
    directory: str | Path,
    *,
    device: str = "cpu",
    model_class: type[GPT] = GPT,
) -> tuple[GPT, Tokenizer]:
    """What `save_model` wrote; the model does not drop anything out."""
    config = json.loads(Path(directory, "config.json").read_text("utf-8"))
    model = model_class(GPTConfig(**config))
    load_weights(model, Path(directory, "model.safetensors"))
    return model.to(device).eval(), Tokenizer.load(directory)


# %% book/foundations/pretraining.md#build_run
def build_run(
    directory: Path,
    tokenizer: Tokenizer,
    config: TrainConfig,
    *,
    shape: GPTConfig,
    batch_size: int,
    out: Path | None = None,
) -> Trainer:
    """The run on train.npy and validation.npy of `directory`."""
    T = shape.max_seq_len
    train, held_out = (
        TokenFile(directory / f"{split}.npy") for split in SPLITS
    )
    return Trainer(
        GPT(shape, generator=torch.Generator().manual_seed(config.seed)),
        PackedBatches(
            train, batch_size=batch_size, seq_len=T, seed=config.seed
        ),
        config,
        directory=out,
        evaluation=HeldOut(held_out, tokenizer, seq_len=T),
        flops=flops_per_token(shape, T),
    )


SPLITS = ("train", "validation")


# %% book/foundations/pretraining.md#STORY_CONFIG
STORY_CONFIG = TrainConfig(steps=500)


def story_trainer(
    tokens: str | Path,
    tokenizer: Tokenizer,
    config: TrainConfig = STORY_CONFIG,
    *,
    out: Path | None = None,
) -> Trainer:
    """The run that makes the book's GPT, on a folder of story tokens."""
    shape = replace(GPTConfig.micro(tokenizer.vocab_size), max_seq_len=256)
    place = Path(tokens)
    return build_run(
        place, tokenizer, config, shape=shape, batch_size=8, out=out
    )


def train_story_gpt(directory: str | Path) -> None:
    """Make the book's tokenizer, its tokens, and from them its GPT."""
    with TemporaryDirectory() as scratch:
        train_story_tokenizer(Path(scratch))
        tokenizer = Tokenizer.load(scratch)
        prepare_story_tokens(scratch, tokenizer)
        trainer = story_trainer(scratch, tokenizer)
        trainer.run()
    assert isinstance(trainer.model, GPT)
    save_model(trainer.model, tokenizer, directory)


# %% book/foundations/pretraining.md#score_probes
@torch.no_grad()
def score_probes(
    model: GPT,
    tokenizer: Tokenizer,
    probes: Sequence[Probe],
    *,
    batch_size: int = 32,
) -> Callable[[str, str], float]:
    """The `log_prob` that `probe_accuracy` asks for, computed in batches.

    Prompts stand behind a separator, as stories do in training; of one that
    is too long the end is read. Candidates of one token share a pass.
    """
    start = tokenizer.special_tokens[END_OF_TEXT]
    device, longest = next(model.parameters()).device, model.config.max_seq_len
    asked: dict[tuple[str, str], tuple[tuple[int, ...], list[int]]] = {}
    for probe in probes:
        prompt = [start, *tokenizer.encode(probe.prompt)]
        for text in probe.candidates:
            ids = tokenizer.encode(text)
            row = tuple([*prompt, *ids[:-1]][-longest:])
            asked[probe.prompt, text] = row, ids
    rows = sorted({row for row, _ in asked.values()}, key=len)
    most = max((len(ids) for _, ids in asked.values()), default=0)
    ends: dict[tuple[int, ...], Tensor] = {}
    for first in range(0, len(rows), batch_size):
        batch = rows[first : first + batch_size]
        padded, _ = pad_batch(batch, pad_id=start)  # comes too late to matter
        log_probs = model(padded.to(device)).float().log_softmax(dim=-1).cpu()
        for row, table in zip(batch, log_probs, strict=True):
            ends[row] = table[: len(row)][-most:].clone()

    def log_prob(prompt: str, candidate: str) -> float:
        row, ids = asked[prompt, candidate]
        table = ends[row][-len(ids) :]  # (n, V): what stands before each id
        return float(table.gather(1, torch.tensor(ids)[:, None]).sum())

    return log_prob


# %% book/foundations/pretraining.md#sample_text
def sample_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str = "",
    *,
    count: int = 200,
    seed: int = 0,
) -> str:
    """`prompt` and `count` tokens drawn after it."""
    device, longest = next(model.parameters()).device, model.config.max_seq_len
    start = tokenizer.special_tokens[END_OF_TEXT]
    ids = sample_tokens(
        lambda ids: model(ids[:, -longest:].to(device)).float().cpu(),
        torch.tensor([[start, *tokenizer.encode(prompt)]]),
        count=count,
        generator=torch.Generator().manual_seed(seed),
    )
    return tokenizer.decode(ids[0, 1:].tolist())


# %% book/foundations/pretraining.md#make_tokenizer
def make_tokenizer(choice: str, text: Path) -> Tokenizer:
    """Bytes, the book's, one of so many tokens from `text`, or a file's."""
    if choice == "bytes":
        return Tokenizer([], special_tokens=[END_OF_TEXT])
    if choice.isdecimal():
        special = [END_OF_TEXT]
        documents = read_documents(text)
        return Tokenizer.train(documents, int(choice), special_tokens=special)
    if choice != "story":
        return Tokenizer.load(choice)
    with TemporaryDirectory() as scratch:
        train_story_tokenizer(Path(scratch))
        return Tokenizer.load(scratch)


def prepare_text(text: Path, tokenizer: Tokenizer, directory: Path) -> None:
    """Write train.npy and validation.npy, which has about a tenth.

    The hash of a document decides; of fewer than twenty documents, the last
    tenth of the text is held out.
    """
    parts: list[Iterable[str]] = [
        filterfalse(in_validation, read_documents(text)),
        filter(in_validation, read_documents(text)),
    ]
    if len(list(islice(read_documents(text), 20))) < 20:
        whole = text.read_text("utf-8")
        cut = len(whole) * 9 // 10
        parts = [[whole[:cut]], [whole[cut:]]]
    for split, documents in zip(SPLITS, parts, strict=True):
        write_token_file(directory / f"{split}.npy", documents, tokenizer)


# %% book/foundations/pretraining.md#parse_arguments
def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; with --resume, the one that began the run."""
    parser = argparse.ArgumentParser(
        "python -m extracted.foundations.pretraining",
        description="Train a GPT on a text file, and print a sample.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add, names = parser.add_argument, ("micro", "mini", "gpt2_small")
    add("--text", type=Path, help=f"UTF-8, {END_OF_TEXT} between documents")
    add("--out", type=Path, default="run", help="folder of the run")
    add("--resume", action="store_true", help="go on with the run in --out")
    add("--preset", choices=names, default="micro", help="of the model")
    add("--tokenizer", default="1024", help="bytes, story, a number of tokens "
        "to learn from the text, or a tokenizer.json")
    add("--batch-size", type=int, default=8, help="windows a batch")
    add("--seq-len", type=int, default=160, help="tokens a window")
    add("--seconds", type=float, help="measure the speed, and set --steps")
    add("--prompt", default="", help="what the sample begins with")
    for field in fields(TrainConfig):
        flag = "--" + field.name.replace("_", "-")
        if field.default is False:
            add(flag, action="store_true", help="as in TrainConfig")
        else:
            kind, usual = type(field.default), field.default
            add(flag, type=kind, default=usual, help="as in TrainConfig")
    args = parser.parse_args(argv)
    note = args.out / "run.json"
    if args.resume and not note.is_file():
        parser.error(f"no run to resume: {note} is missing")
    if args.resume:
        return argparse.Namespace(**vars(args) | json.loads(note.read_text()))
    if args.text is None or not args.text.is_file():
        parser.error(f"--text {args.text}: name a text file")
    if note.is_file():
        parser.error(f"{args.out} holds a run: --resume, or name a new --out")
    return args


# %% book/foundations/pretraining.md#main
def main(argv: Sequence[str] | None = None) -> int:
    """Train on a text file; 130 when stopped by Ctrl-C."""
    args = parse_arguments(argv)
    out, given = args.out, vars(args)
    if not args.resume:
        out.mkdir(parents=True, exist_ok=True)
        tokenizer = make_tokenizer(args.tokenizer, args.text)
        tokenizer.save(out / "tokenizer.json")
        prepare_text(args.text, tokenizer, out)
    tokenizer = Tokenizer.load(out)
    preset = getattr(GPTConfig, args.preset)()
    T, V = args.seq_len, tokenizer.vocab_size
    shape = replace(preset, vocab_size=V, max_seq_len=T)

    def build(**changes: Any) -> Trainer:
        options = {f.name: given[f.name] for f in fields(TrainConfig)}
        return build_run(
            out, tokenizer, TrainConfig(**options | changes), shape=shape,
            batch_size=args.batch_size, out=None if changes else out,
        )

    if args.seconds and not args.resume:
        speed = build(steps=8, log_every=4).run()[-1]["tokens_per_second"]
        a_step = args.batch_size * T * args.accumulate
        args.steps = max(1, round(args.seconds * speed / a_step))
    passing = ("text", "out", "resume")
    kept = {k: v for k, v in given.items() if k not in passing}
    (out / "run.json").write_text(json.dumps(kept, indent=2), "utf-8")
    trainer = build()
    trainer.resume()
    try:
        last = trainer.run()[-1]
    except KeyboardInterrupt:
        print(f"stopped; go on with --resume --out {out}", file=sys.stderr)
        return 130
    assert isinstance(trainer.model, GPT)
    save_model(trainer.model, tokenizer, out)
    print(f"{last['bits_per_byte']:.3f} bits per byte on held-out text")
    print(sample_text(trainer.model.eval(), tokenizer, args.prompt))
    return 0


if __name__ == "__main__" and __spec__:  # by python -m, not in a notebook
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"error: {error}")
