# Generated from book/alignment/classification.md; do not edit (3d6c9fbe258b)
"""A head on a pretrained trunk, frozen or not, against a bag of words; what each of
them needs, what it costs, and what a held-out split can hide.
"""

# %% book/alignment/classification.md#imports
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extracted.foundations.data import (
    in_validation,
    length_buckets,
    pad_batch,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    GRAMMAR,
    Narrator,
    RemoteFile,
)
from extracted.foundations.pretraining import TrainConfig, Trainer
from extracted.foundations.tokenizer import Tokenizer


# %% book/alignment/classification.md#LabelledText
@dataclass(frozen=True)
class LabelledText:
    """A text and its class, counted from 0."""

    text: str
    label: int


def split_of_text(text: str) -> str:
    """"train", or for a tenth of all texts each "validation" and "test"."""
    if in_validation(text, share=0.1):
        return "validation"
    return "test" if in_validation(text, share=0.2) else "train"


# %% book/alignment/classification.md#CAUSES
CAUSES = [tuple(line.split("/")) for line in GRAMMAR["cause"]]
Teller = Callable[[Narrator, int], None]  # goes on with a story of a class


def tell_sum(narrator: Narrator, label: int) -> None:
    """Class 1 counts things, class 0 walks about."""
    if label:
        narrator.count()
    else:
        narrator.travel(2)


def tell_trouble(
    narrator: Narrator, label: int, *, causes: Sequence[int] = range(16)
) -> None:
    """A trouble with one of these `CAUSES`, in class 1 with another's effect.

    Every origin and every effect is as frequent in one class as in the other.
    """
    pick = narrator.dice.pick
    cause = pick(causes)
    rivals = [other for other in causes if other != cause]
    _, obstacle, state = CAUSES[pick(rivals) if label else cause]
    told = {"origin": CAUSES[cause][0], "obstacle": obstacle, "state": state}
    narrator.words |= told
    narrator.say("trouble")


# %% book/alignment/classification.md#labelled_texts
def labelled_texts(
    tell: Teller, count: int, *, seed: int = 0, split: str = "train"
) -> list[LabelledText]:
    """`count` different texts of a split, the classes equally probable."""
    if split not in ("train", "validation", "test"):
        raise ValueError(f"split {split!r}: train, validation or test")
    rng, found = random.Random(f"{split} {seed}"), dict[str, LabelledText]()
    while len(found) < count:
        narrator = Narrator(rng)
        label = narrator.dice.below(2)
        narrator.say("meeting")
        tell(narrator, label)
        text = narrator.text[1:]
        if split_of_text(text) == split:
            found[text] = LabelledText(text, label)
    return list(found.values())


# %% book/alignment/classification.md#LabelledIds
@dataclass(frozen=True)
class LabelledIds:
    """Token ids of a text behind a separator, and its class."""

    ids: list[int]
    label: int


def encode_texts(
    tokenizer: Tokenizer, texts: Sequence[str], *, max_len: int = 256
) -> list[list[int]]:
    """A separator and the tokens of each text, at most `max_len` in all.

    Of a longer text the beginning is kept.
    """
    start = tokenizer.special_tokens[END_OF_TEXT]
    return [[start, *tokenizer.encode(text)][:max_len] for text in texts]


def encode_labelled(
    tokenizer: Tokenizer,
    examples: Sequence[LabelledText],
    *,
    max_len: int = 256,
) -> list[LabelledIds]:
    """The examples as ids."""
    texts = [example.text for example in examples]
    rows = encode_texts(tokenizer, texts, max_len=max_len)
    return [LabelledIds(ids, e.label) for ids, e in zip(rows, examples)]


# %% book/alignment/classification.md#collate_labelled
def collate_labelled(
    items: Sequence[LabelledIds],
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids and mask (B, T), padded on the right, and labels (B,)."""
    ids, mask = pad_batch([item.ids for item in items], pad_id=0)
    return ids, mask, torch.tensor([item.label for item in items])


def classification_loss(
    model: Callable[[Tensor, Tensor], Tensor],
    ids: Tensor,
    mask: Tensor,
    labels: Tensor,
) -> Tensor:
    """Mean cross-entropy in nats of labels (B,) under logits (B, K)."""
    return F.cross_entropy(model(ids, mask).float(), labels)


# %% book/alignment/classification.md#Item
Item = TypeVar("Item")


class LengthBatches(Iterator[tuple[Tensor, ...]], Generic[Item]):
    """Endless batches of items of similar length, each once an epoch.

    `join` makes the tensors of a batch from its items.
    """

    def __init__(
        self,
        items: Sequence[Item],
        lengths: Sequence[int],
        join: Callable[[list[Item]], tuple[Tensor, ...]],
        *,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        if len(items) < batch_size:
            raise ValueError(
                f"{len(items)} examples do not fill a batch of "
                f"{batch_size}; give more, or a smaller batch_size"
            )
        self.items, self.lengths, self.join = items, lengths, join
        self.batch_size, self.seed = batch_size, seed
        self.per_epoch = -(-len(items) // batch_size)
        self.batches_read, self._epoch = 0, -1

    def __next__(self) -> tuple[Tensor, ...]:
        epoch, place = divmod(self.batches_read, self.per_epoch)
        if epoch != self._epoch:
            self._order = length_buckets(
                self.lengths, batch_size=self.batch_size, seed=self.seed,
                epoch=epoch,
            )
            self._epoch = epoch
        self.batches_read += 1
        return self.join([self.items[i] for i in self._order[place]])

    def state_dict(self) -> dict[str, int]:
        """Where the run stands."""
        return {"batches_read": self.batches_read, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken, with the same examples."""
        if state["seed"] != self.seed:
            raise ValueError(
                f"the state is of seed {state['seed']}, not {self.seed}"
            )
        self.batches_read = state["batches_read"]


# %% book/alignment/classification.md#CLASSIFIER_CONFIG
CLASSIFIER_CONFIG = TrainConfig(
    steps=150, rate=3e-3, matrix_rate=0.015, log_every=50, evaluate_every=0
)


def fit_classifier(
    model: nn.Module,
    items: Sequence[LabelledIds],
    config: TrainConfig = CLASSIFIER_CONFIG,
    *,
    batch_size: int = 16,
) -> list[dict[str, float]]:
    """Train what is trainable of a classifier, in place; the log.

    `model` maps ids and mask (B, T) to logits (B, K).
    """
    batches = LengthBatches(
        items, [len(item.ids) for item in items], collate_labelled,
        batch_size=min(batch_size, len(items)), seed=config.seed,
    )
    log = Trainer(model, batches, config, loss=classification_loss).run()
    model.eval()
    return log


# %% book/alignment/classification.md#length_chunks
def length_chunks(lengths: Sequence[int], size: int) -> list[list[int]]:
    """The indices of `lengths`, shortest first, `size` at a time."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    return [order[i : i + size] for i in range(0, len(order), size)]


@torch.no_grad()
def class_logits(
    model: nn.Module, rows: Sequence[Sequence[int]], *, batch_size: int = 64
) -> Tensor:
    """Logits (N, K) of N rows of ids, on the CPU, in their order."""
    device = next(model.parameters()).device
    chunks = length_chunks([len(row) for row in rows], batch_size)
    found: list[Tensor] = []
    for chunk in chunks:
        ids, mask = pad_batch([rows[i] for i in chunk], pad_id=0)
        logits = model(ids.to(device), mask.to(device))
        found.append(logits.float().cpu())
    order = [i for chunk in chunks for i in chunk]
    return torch.cat(found)[torch.tensor(order).argsort()]


# %% book/alignment/classification.md#predict
def predict(
    model: nn.Module,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    max_len: int = 256,
) -> Tensor:
    """Logits (N, K) of the texts, on the CPU, in their order."""
    rows = encode_texts(tokenizer, texts, max_len=max_len)
    return class_logits(model, rows)


def accuracy(logits: Tensor, labels: Sequence[int]) -> float:
    """The share of rows of logits (N, K) that are greatest at the label."""
    right = logits.argmax(dim=1) == torch.tensor(labels)
    return right.float().mean().item()


# %% book/alignment/classification.md#Classifier
class Classifier(nn.Module):
    """A GPT and a linear readout of the state of each text's last token.

    Ids and mask (B, T), padded on the right, to logits (B, K); one class is
    a score, (B, 1). `trunk` is used and not copied. The readout starts at
    zero, so all classes are equally probable. Radford et al. (2018).
    """

    def __init__(self, trunk: GPT, num_classes: int = 2) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}; use 1 or more")
        self.trunk = trunk
        self.readout = nn.Linear(trunk.config.width, num_classes)
        nn.init.zeros_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        """What the readout reads of each text, (B, C)."""
        if not mask[:, 0].all() or (mask[:, 1:] > mask[:, :-1]).any():
            raise ValueError(
                "the mask must be True at one token or more and then False; "
                'use pad_batch(..., side="right") and no empty text'
            )
        rows = torch.arange(len(ids), device=ids.device)
        return self.trunk.hidden(ids)[rows, mask.sum(dim=1) - 1]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.readout(self.states(ids, mask))
        return logits


# %% book/alignment/classification.md#T_QUANTILES
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % interval of 2 to 10 runs."""
    n = len(values)
    if not 2 <= n <= len(T_QUANTILES) + 1:
        raise ValueError(f"{n} runs: the interval is tabled for 2 to 10")
    return fmean(values), T_QUANTILES[n - 2] * stdev(values) / n**0.5


# %% book/alignment/classification.md#PARTS
PARTS = ("head", "last", "all")


def set_trainable(model: Classifier, part: str) -> int:
    """Let only a part learn; the number of weights that do.

    "head" is the readout, "last" also the last block and the final norm, and
    "all" everything that the logits depend on.
    """
    if part not in PARTS:
        raise ValueError(f"part {part!r}: choose one of {', '.join(PARTS)}")
    trunk = model.trunk
    model.requires_grad_(part == "all")
    model.readout.requires_grad_(True)
    if part == "last":
        trunk.blocks[-1].requires_grad_(True)
        trunk.norm.requires_grad_(True)
    if not trunk.config.tied:
        trunk.readout.requires_grad_(False)  # it is not used
    learns = (w for w in model.parameters() if w.requires_grad)
    return sum(w.numel() for w in learns)


# %% book/alignment/classification.md#fit_readout
def fit_readout(
    model: Classifier,
    tokenizer: Tokenizer,
    examples: Sequence[LabelledText],
    *,
    penalty: float = 1e-4,
    max_len: int = 256,
) -> float:
    """Fit the readout alone on states that are computed once; the loss.

    `penalty` is the weight of half the squared norm of the matrix.
    """
    trunk = Classifier(model.trunk, model.trunk.config.width)
    nn.init.eye_(trunk.readout.weight)  # its "logits" are the states
    texts = [example.text for example in examples]
    device = model.readout.weight.device
    states = predict(trunk.to(device).eval(), tokenizer, texts,
                     max_len=max_len).to(device)
    labels = torch.tensor([e.label for e in examples], device=device)
    weight = model.readout.weight
    optimizer = torch.optim.LBFGS(
        model.readout.parameters(), max_iter=300, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model.readout(states), labels)
        loss = loss + penalty / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    model.eval()
    return float(closure().detach())


# %% book/alignment/classification.md#SMS_SPAM
SMS_SPAM = RemoteFile(
    "https://archive.ics.uci.edu/static/public/228/sms+spam+collection.zip",
    "sms_spam/sms+spam+collection.zip",
    "1587ea43e58e82b14ff1f5425c88e17f8496bfcdb67a583dbff9eefaf9963ce3",
)
SMS_LABELS = ("ham", "spam")


def parse_sms_spam(text: str, source: str = "text") -> list[LabelledText]:
    """Lines "ham" or "spam", a tab, a message; classes 0 and 1.

    `ValueError` with `source`, line and remedy for a line of another kind.
    """
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        label, tab, message = line.partition("\t")
        if not line:
            continue
        if label not in SMS_LABELS or not tab or not message.strip():
            raise ValueError(
                f"{source}:{number}: {line[:40]!r} is not ham or spam, a tab "
                "and a message; mend the line, or delete the file and fetch "
                "it again"
            )
        found.append(LabelledText(message, SMS_LABELS.index(label)))
    return found


# %% book/alignment/classification.md#load_sms_spam
def load_sms_spam(
    path: str | Path | None = None, *, timeout: float = 30.0
) -> list[LabelledText]:
    """The 5,574 messages of the SMS Spam Collection, 1 for spam.

    Fetched as by `RemoteFile`, or read from `path`, the zip file or the text
    in it, if you have it. Almeida et al. (2011), licence CC BY 4.0.
    """
    place = Path(path) if path else SMS_SPAM.fetch(timeout=timeout)
    try:
        if not zipfile.is_zipfile(place):
            return parse_sms_spam(place.read_text("utf-8"), str(place))
        with zipfile.ZipFile(place) as archive:
            content = archive.read("SMSSpamCollection").decode("utf-8")
    except (KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{place}: {error}; expected a zip file with SMSSpamCollection in "
            f"UTF-8; delete it, and fetch {SMS_SPAM.url}"
        ) from error
    return parse_sms_spam(content, f"{place}/SMSSpamCollection")


# %% book/alignment/classification.md#confusion_matrix
def confusion_matrix(
    logits: Tensor, labels: Sequence[int], *, num_classes: int = 2
) -> Tensor:
    """Counts (K, K): of row's class, called column's, by logits (N, K)."""
    truth, called = torch.tensor(labels), logits.argmax(dim=1)
    if len(truth) and not 0 <= truth.min() <= truth.max() < num_classes:
        raise ValueError(f"labels must be in 0 … {num_classes - 1}")
    counts = torch.bincount(
        truth * num_classes + called, minlength=num_classes**2
    )
    return counts.view(num_classes, num_classes)


def precision_recall(matrix: Tensor, label: int) -> tuple[float, float]:
    """Of those called `label` the share that is; of those that are, called.

    0 where there are none.
    """
    hits, called = matrix[label, label], matrix[:, label].sum()
    precision = (hits / called.clamp(min=1)).item()
    return precision, (hits / matrix[label].sum().clamp(min=1)).item()
