"""How many labels a classifier needs: a bag of words, a model from scratch, and a
pretrained one with its head, its last block or all of it trained.

Two tasks on the book's stories, three seeds: in one a word decides, in the other which
words go together. Then which token's state the head should read, and real messages:
`EXTRACTED_SMS` may name the SMS Spam Collection's zip file or text, else it is fetched.
The model is pretrained first, unless `EXTRACTED_STORY_GPT` names its directory.
"""

import copy
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from harness import digits, main, progress
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import Tensor

from extracted.alignment.classification import (
    CLASSIFIER_CONFIG,
    PARTS,
    Classifier,
    LabelledText,
    accuracy,
    confusion_matrix,
    encode_labelled,
    fit_classifier,
    fit_readout,
    labelled_texts,
    load_sms_spam,
    precision_recall,
    predict,
    set_trainable,
    split_of_text,
    tell_sum,
    tell_trouble,
)
from extracted.foundations.gpt import GPT
from extracted.foundations.pretraining import load_model, train_story_gpt
from extracted.foundations.tokenizer import Tokenizer

SEEDS = (0, 1, 2)
SIZES = {"sums": (16, 64, 256, 1024, 4096), "swaps": (64, 256, 1024, 4096)}
TASKS = {"sums": tell_sum, "swaps": partial(tell_trouble, causes=range(10))}
# Where words decide, the head alone is right; there is nothing to train further.
METHODS = {
    "sums": ("bag", "scratch", "head"),
    "swaps": ("bag", "head", "last", "all", "scratch"),
}
FROM_SCRATCH = 3  # times as many steps, at the rates of pretraining


class FirstState(Classifier):
    """Reads the first token's state."""

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.trunk.hidden(ids)[:, 0]


class MeanState(Classifier):
    """Reads the mean of all states but the padding's."""

    def states(self, ids: Tensor, mask: Tensor) -> Tensor:
        states = self.trunk.hidden(ids) * mask[..., None]
        return states.sum(dim=1) / mask.sum(dim=1, keepdim=True)


PLACES = {
    "first token": FirstState,
    "mean of all": MeanState,
    "last token": Classifier,
}


@dataclass(frozen=True)
class Start:
    """What all runs begin with, and how long they are."""

    model: GPT
    tokenizer: Tokenizer
    steps: int

    def fit(self, method: str, examples: list[LabelledText], seed: int) -> Classifier:
        """A classifier trained on examples in one of the ways."""
        items = encode_labelled(self.tokenizer, examples)
        if method == "scratch":
            generator = torch.Generator().manual_seed(seed)
            model = Classifier(GPT(self.model.config, generator=generator))
            config = replace(
                CLASSIFIER_CONFIG,
                steps=FROM_SCRATCH * self.steps,
                rate=5e-3,
                matrix_rate=0.03,
                seed=seed,
            )
            fit_classifier(model, items, config)
            return model
        place = PLACES.get(method, Classifier)
        model = place(copy.deepcopy(self.model))
        set_trainable(model, method if method in PARTS else "all")
        if method == "head":
            fit_readout(model, self.tokenizer, examples)
        else:
            config = replace(CLASSIFIER_CONFIG, steps=self.steps, seed=seed)
            fit_classifier(model, items, config)
        return model


def columns(examples: Sequence[LabelledText]) -> tuple[list[str], list[int]]:
    return [e.text for e in examples], [e.label for e in examples]


def bag_logits(train: list[LabelledText], texts: list[str]) -> Tensor:
    """The bag of words' log-probabilities (N, 2); of one class alone, that class."""
    words, labels = columns(train)
    if len(set(labels)) == 1:
        return torch.eye(2)[labels[:1]].expand(len(texts), 2)
    bag = make_pipeline(CountVectorizer(), LogisticRegression(max_iter=1000))
    bag.fit(words, labels)
    return torch.from_numpy(bag.predict_log_proba(texts))


def logits_of(
    start: Start, method: str, train: list[LabelledText], texts: list[str], seed: int
) -> Tensor:
    if method == "bag":
        return bag_logits(train, texts)
    model = start.fit(method, train, seed)
    return predict(model, start.tokenizer, texts)


def curves(
    start: Start, sizes: dict[str, tuple[int, ...]], seeds: tuple[int, ...], count: int
) -> dict[str, Any]:
    """Test accuracy: task, method, number of labels, one of each seed."""
    found: dict[str, Any] = {}
    for task, tell in TASKS.items():
        texts, labels = columns(labelled_texts(tell, count, split="test"))
        found[task] = {}
        for method in METHODS[task]:
            rows = {str(size): list[float]() for size in sizes[task]}
            for size in sizes[task]:
                for seed in seeds:
                    train = labelled_texts(tell, size, seed=100 + seed)
                    logits = logits_of(start, method, train, texts, seed)
                    rows[str(size)].append(digits(accuracy(logits, labels)))
            found[task][method] = rows
            progress(f"{task}, {method}: {rows}")
    return found


def places(
    start: Start, size: int, seeds: tuple[int, ...], count: int
) -> dict[str, Any]:
    """Test accuracy on swapped stories by the state that the head reads."""
    texts, labels = columns(labelled_texts(TASKS["swaps"], count, split="test"))
    found: dict[str, list[float]] = {}
    for place in PLACES:
        found[place] = []
        for seed in seeds:
            train = labelled_texts(TASKS["swaps"], size, seed=100 + seed)
            logits = logits_of(start, place, train, texts, seed)
            found[place].append(digits(accuracy(logits, labels)))
        progress(f"{place}: {found[place]}")
    return found


def leaked_share(messages: list[LabelledText], share: float = 0.1) -> float:
    """Of a test set drawn at random, the share that stands in training too."""
    order = messages.copy()
    random.Random(0).shuffle(order)
    cut = int(len(order) * share)
    known = {message.text for message in order[cut:]}
    return sum(message.text in known for message in order[:cut]) / cut


def sms(
    start: Start, messages: list[LabelledText], seeds: tuple[int, ...]
) -> dict[str, Any]:
    """Accuracy, and of spam precision and recall, on messages held back by hash."""
    train = [m for m in messages if split_of_text(m.text) == "train"]
    held_out = [m for m in messages if split_of_text(m.text) == "test"]
    texts, labels = columns(held_out)
    found: dict[str, Any] = {
        "count": len(messages),
        "different": len({m.text for m in messages}),
        "leaked": digits(leaked_share(messages)),
        "train": len(train),
        "test": len(texts),
        "ham_share": digits(labels.count(0) / len(labels)),
    }
    for method in ("bag", "scratch", "all"):
        found[method] = []
        for seed in seeds:
            order = train.copy()
            random.Random(seed).shuffle(order)
            # each seed learns from nine tenths, else the bag's would be equal
            part = order[: len(order) * 9 // 10]
            logits = logits_of(start, method, part, texts, seed)
            precision, recall = precision_recall(confusion_matrix(logits, labels), 1)
            row = {
                "accuracy": digits(accuracy(logits, labels)),
                "precision": digits(precision),
                "recall": digits(recall),
            }
            found[method].append(row)
        progress(f"SMS, {method}: {found[method]}")
    return found


def story_gpt() -> tuple[GPT, Tokenizer]:
    given = os.environ.get("EXTRACTED_STORY_GPT")
    if given:
        return load_model(given)
    with TemporaryDirectory() as scratch:
        train_story_gpt(scratch)
        return load_model(scratch)


def messages_for(quick: bool) -> list[LabelledText]:
    """The real ones; in a quick run, some stories in their place."""
    if quick:
        return labelled_texts(tell_sum, 200) + labelled_texts(
            tell_sum, 20, split="test"
        )
    given = os.environ.get("EXTRACTED_SMS")
    return load_sms_spam(Path(given) if given else None)


def run(quick: bool) -> dict[str, Any]:
    torch.set_num_threads(1)
    start = Start(*story_gpt(), steps=2 if quick else 150)
    sizes = dict.fromkeys(TASKS, (16,)) if quick else SIZES
    seeds, count = (SEEDS[:2], 64) if quick else (SEEDS, 1000)
    messages = messages_for(quick)
    long = replace(start, steps=start.steps if quick else 300)
    return {
        "steps": start.steps,
        "from_scratch_steps": FROM_SCRATCH * start.steps,
        "seeds": list(seeds),
        "places": places(start, sizes["swaps"][-1], seeds, count),
        "sms": sms(long, messages, seeds),
        "curves": curves(start, sizes, seeds, count),
    }


if __name__ == "__main__":
    sys.exit(main("classification", run, ("torch", "numpy", "scikit-learn")))
