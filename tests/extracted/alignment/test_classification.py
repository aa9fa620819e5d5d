"""A classifier: tasks, head, parts that learn, batches, scores and real messages."""

import copy
import hashlib
import io
import math
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import stdev

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import precision_recall_fscore_support
from sklearn.pipeline import make_pipeline

from extracted.alignment import classification
from extracted.alignment.classification import (
    CAUSES,
    CLASSIFIER_CONFIG,
    PARTS,
    SMS_SPAM,
    Classifier,
    LabelledIds,
    LabelledText,
    LengthBatches,
    accuracy,
    class_logits,
    classification_loss,
    collate_labelled,
    confusion_matrix,
    encode_labelled,
    encode_texts,
    fit_classifier,
    fit_readout,
    labelled_texts,
    load_sms_spam,
    parse_sms_spam,
    precision_recall,
    predict,
    set_trainable,
    split_of_text,
    t_interval,
    tell_sum,
    tell_trouble,
)
from extracted.foundations.gpt import GPT, GPTConfig
from extracted.foundations.language_modeling import END_OF_TEXT, DownloadError
from extracted.foundations.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer([], special_tokens=[END_OF_TEXT])  # bytes


@pytest.fixture
def trunk(tokenizer: Tokenizer) -> GPT:
    shape = GPTConfig(tokenizer.vocab_size, 256, 3, 2, 16, bias=False)
    model = GPT(shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    for weight in model.parameters():
        weight.data.mul_(4)  # so that states differ visibly
    return model.eval()


@pytest.fixture
def model(trunk: GPT) -> Classifier:
    found = Classifier(trunk)
    generator = torch.Generator().manual_seed(2)
    torch.nn.init.normal_(found.readout.weight, generator=generator)
    return found


WORDS = ["a", "be", "sea", "deep", "lakes", "meadow"]
MIXED = [LabelledText(" ".join(WORDS[: 1 + i % 6]) * (1 + i), i % 2) for i in range(12)]


def test_splits_hold_every_text_once_and_in_their_shares() -> None:
    texts = [f"story {i}" for i in range(4000)]
    counts = Counter(map(split_of_text, texts))
    assert set(counts) == {"train", "validation", "test"}
    for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
        assert abs(counts[split] / len(texts) - share) < 0.02
    assert split_of_text(texts[7]) == split_of_text("story 7")


def test_the_task_with_a_sum_is_told_by_its_words() -> None:
    for split in ("train", "validation", "test"):
        found = labelled_texts(tell_sum, 60, split=split)
        assert len({example.text for example in found}) == 60
        assert {example.label for example in found} == {0, 1}
        for example in found:
            assert split_of_text(example.text) == split
            assert bool(re.search(r"\d", example.text)) == bool(example.label)
    assert labelled_texts(tell_sum, 5) == labelled_texts(tell_sum, 9)[:5]
    assert labelled_texts(tell_sum, 5, seed=1) != labelled_texts(tell_sum, 5)
    with pytest.raises(ValueError, match="train, validation or test"):
        labelled_texts(tell_sum, 5, split="dev")


def told(text: str) -> tuple[int, int]:
    """The cause whose origin a text tells, and the cause whose effect."""
    (origin,) = [i for i, (start, _, _) in enumerate(CAUSES) if start in text]
    ends = [f" {obstacle} was {state}." for _, obstacle, state in CAUSES]
    (effect,) = [i for i, end in enumerate(ends) if text.endswith(end)]
    return origin, effect


def test_swapped_troubles_have_another_causes_effect() -> None:
    few = partial(tell_trouble, causes=(2, 5, 11))
    seen = set()
    for example in labelled_texts(few, 200):
        origin, effect = told(example.text)
        assert (origin != effect) == bool(example.label)
        seen.add((origin, effect))
    assert seen == {(i, j) for i in (2, 5, 11) for j in (2, 5, 11)}


def test_no_word_tells_a_swapped_trouble() -> None:
    few = partial(tell_trouble, causes=range(4))
    train, test = (labelled_texts(few, 800, split=split) for split in ("train", "test"))
    effects = {0: Counter[int](), 1: Counter[int]()}
    for example in train:
        effects[example.label][told(example.text)[1]] += 1
    for effect in range(4):
        shares = [c[effect] / c.total() for c in effects.values()]
        assert abs(shares[0] - shares[1]) < 0.06
    for ngrams, low, high in (((1, 1), 0.4, 0.6), ((1, 6), 0.8, 1.0)):
        counts = CountVectorizer(ngram_range=ngrams)
        bag = make_pipeline(counts, LogisticRegression(max_iter=1000))
        bag.fit([e.text for e in train], [e.label for e in train])
        found = bag.score([e.text for e in test], [e.label for e in test])
        assert low <= found <= high


def test_texts_become_ids_behind_a_separator(tokenizer: Tokenizer) -> None:
    end = tokenizer.special_tokens[END_OF_TEXT]
    assert encode_texts(tokenizer, ["ab", "abcdef"], max_len=4) == [
        [end, *tokenizer.encode("ab")],
        [end, *tokenizer.encode("abc")],
    ]
    (item,) = encode_labelled(tokenizer, [LabelledText("a", 3)], max_len=9)
    assert item == LabelledIds([end, *tokenizer.encode("a")], 3)


def test_a_batch_by_hand() -> None:
    items = [LabelledIds([5, 6, 7], 1), LabelledIds([5], 0)]
    ids, mask, labels = collate_labelled(items)
    assert ids.tolist() == [[5, 6, 7], [5, 0, 0]]
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert labels.tolist() == [1, 0]
    logits = torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])
    loss = classification_loss(lambda ids, mask: logits, ids, mask, labels)
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(2)) / 2)


def test_batches_hold_each_item_once_an_epoch() -> None:
    items, lengths = list(range(21)), [1 + i % 7 for i in range(21)]

    def join(batch: list[int]) -> tuple[torch.Tensor, ...]:
        return (torch.tensor(batch),)

    batches = LengthBatches(items, lengths, join, batch_size=4, seed=3)
    epochs = [[next(batches)[0].tolist() for _ in range(6)] for _ in range(2)]
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch) == items
    assert epochs[0] != epochs[1]
    again = LengthBatches(items, lengths, join, batch_size=4, seed=3)
    next(again)
    rest = LengthBatches(items, lengths, join, batch_size=4, seed=3)
    rest.load_state_dict(again.state_dict())
    assert next(rest)[0].tolist() == epochs[0][1] == next(again)[0].tolist()
    other = LengthBatches(items, lengths, join, batch_size=4, seed=4)
    with pytest.raises(ValueError, match="of seed 3, not 4"):
        other.load_state_dict(again.state_dict())
    with pytest.raises(ValueError, match="21 examples do not fill a batch of 22"):
        LengthBatches(items, lengths, join, batch_size=22)


def test_the_readout_reads_the_last_token_whatever_stands_behind(
    model: Classifier,
) -> None:
    ids = torch.randint(0, 256, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 9, dtype=torch.bool)
    for row, length in enumerate((9, 4, 1)):
        mask[row, :length] = True
    logits = model(ids, mask)
    assert logits.shape == (3, 2)
    for row, length in enumerate((9, 4, 1)):
        state = model.trunk.hidden(ids[row : row + 1, :length])[0, -1]
        expected = model.readout.weight @ state + model.readout.bias
        torch.testing.assert_close(logits[row], expected)
    changed = torch.where(mask, ids, 7)
    torch.testing.assert_close(model(changed, mask), logits)
    changed[1, 3] = (ids[1, 3] + 1) % 256
    assert not torch.allclose(model(changed, mask)[1], logits[1])


def test_a_new_classifier_has_no_opinion(trunk: GPT) -> None:
    ids, mask = torch.zeros(2, 3, dtype=torch.long), torch.ones(2, 3).bool()
    assert Classifier(trunk, 5)(ids, mask).tolist() == [[0.0] * 5] * 2
    assert Classifier(trunk, num_classes=1)(ids, mask).shape == (2, 1)
    with pytest.raises(ValueError, match="num_classes is 0; use 1 or more"):
        Classifier(trunk, 0)


@pytest.mark.parametrize("row", [[0, 1, 1], [0, 0, 0], [1, 0, 1]])
def test_other_masks_are_refused(model: Classifier, row: list[int]) -> None:
    ids, mask = torch.zeros(2, 3, dtype=torch.long), torch.tensor([[1, 1, 1], row])
    with pytest.raises(ValueError, match="use pad_batch"):
        model(ids, mask.bool())


def test_gradients_reach_every_weight_that_is_used(model: Classifier) -> None:
    ids, mask = torch.arange(8).view(2, 4), torch.ones(2, 4).bool()
    classification_loss(model, ids, mask, torch.tensor([0, 1])).backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("tied", [True, False])
def test_parts(trunk: GPT, tied: bool) -> None:
    model = Classifier(GPT(replace(trunk.config, tied=tied)))
    sizes = {name: w.numel() for name, w in model.named_parameters()}
    learns = {
        "head": lambda name: name.startswith("readout"),
        "last": lambda name: name.startswith(
            ("readout", "trunk.blocks.2", "trunk.norm")
        ),
        "all": lambda name: not name.startswith("trunk.readout"),
    }
    for part in (*PARTS, "head"):  # the order must not matter
        count = set_trainable(model, part)
        expected = {name for name in sizes if learns[part](name)}
        found = {n for n, w in model.named_parameters() if w.requires_grad}
        assert found == expected
        assert count == sum(sizes[name] for name in expected)
    with pytest.raises(ValueError, match="'tail': choose one of head, last, all"):
        set_trainable(model, "tail")


@pytest.mark.parametrize("part", PARTS)
def test_training_changes_that_part_alone(
    model: Classifier, tokenizer: Tokenizer, part: str
) -> None:
    before = copy.deepcopy(model.state_dict())
    set_trainable(model, part)
    config = replace(CLASSIFIER_CONFIG, steps=2)
    items = encode_labelled(tokenizer, MIXED)
    fit_classifier(model, items, config, batch_size=4)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) != weight.requires_grad, name


def test_it_learns_a_handful_by_heart(tokenizer: Tokenizer) -> None:
    shape = GPTConfig(tokenizer.vocab_size, 64, 2, 2, 16, bias=False, qk_norm=True)
    model = Classifier(GPT(shape, generator=torch.Generator().manual_seed(0)), 3)
    examples = [LabelledText(word, i % 3) for i, word in enumerate(WORDS)]
    config = replace(CLASSIFIER_CONFIG, steps=80, rate=0.01, matrix_rate=0.05)
    items = encode_labelled(tokenizer, examples, max_len=64)
    log = fit_classifier(model, items, config)
    logits = predict(model, tokenizer, WORDS, max_len=64)
    assert accuracy(logits, [e.label for e in examples]) == 1.0
    assert log[-1]["loss"] < 0.1 and not model.training


def test_predictions_come_in_order_and_do_not_depend_on_the_batch(
    model: Classifier, tokenizer: Tokenizer
) -> None:
    texts = [example.text for example in MIXED]
    together = predict(model, tokenizer, texts)
    assert together.shape == (12, 2) and not together.requires_grad
    rows = encode_texts(tokenizer, texts)
    for size in (1, 5):
        apart = class_logits(model, rows, batch_size=size)
        torch.testing.assert_close(apart, together)
    alone = torch.cat([predict(model, tokenizer, [text]) for text in texts])
    torch.testing.assert_close(alone, together)


def test_a_fitted_readout_is_scikit_learns(
    model: Classifier, tokenizer: Tokenizer
) -> None:
    examples = labelled_texts(tell_sum, 60)
    before = copy.deepcopy(model.trunk.state_dict())
    rows = encode_texts(tokenizer, [e.text for e in examples], max_len=40)
    with torch.no_grad():
        states = torch.stack(
            [model.trunk.hidden(torch.tensor([r]))[0, -1] for r in rows]
        )
    labels = [e.label for e in examples]
    penalty = 0.05
    loss = fit_readout(model, tokenizer, examples, penalty=penalty, max_len=40)
    # two rows w / 2 and -w / 2 have half the squared norm of w
    oracle = LogisticRegression(
        C=2 / (penalty * len(labels)), max_iter=10_000, tol=1e-8
    )
    oracle.fit(states.numpy(), labels)
    texts = [e.text for e in examples]
    found = predict(model, tokenizer, texts, max_len=40).softmax(dim=1)
    expected = oracle.predict_proba(states.numpy())
    np.testing.assert_allclose(found.numpy(), expected, atol=5e-3)
    plain = F.cross_entropy(found.log(), torch.tensor(labels)).item()
    weight = model.readout.weight
    square = penalty / 2 * weight.square().sum().item()
    assert loss == pytest.approx(plain + square, rel=1e-4)
    for name, value in model.trunk.state_dict().items():
        assert torch.equal(value, before[name])


def test_scores_are_scikit_learns() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(300, 3, generator=generator)
    labels = torch.randint(0, 3, (300,), generator=generator).tolist()
    called = logits.argmax(dim=1).tolist()
    matrix = confusion_matrix(logits, labels, num_classes=3)
    assert matrix.tolist() == sklearn_confusion(labels, called).tolist()
    precisions, recalls, _, _ = precision_recall_fscore_support(labels, called)
    for label in range(3):
        found = precision_recall(matrix, label)
        assert found == pytest.approx((precisions[label], recalls[label]))
    right = matrix.diagonal().sum().item() / 300
    assert accuracy(logits, labels) == pytest.approx(right)


def test_scores_of_a_class_that_nobody_has_or_calls() -> None:
    matrix = confusion_matrix(torch.tensor([[2.0, 1.0], [3.0, 0.0]]), [0, 1])
    assert matrix.tolist() == [[1, 0], [1, 0]]
    assert precision_recall(matrix, 1) == (0.0, 0.0)
    assert precision_recall(matrix, 0) == (0.5, 1.0)
    with pytest.raises(ValueError, match=r"labels must be in 0 … 1"):
        confusion_matrix(torch.zeros(1, 2), [2])


LINES = "ham\tSee you at 5 £\nspam\tWIN\ta kite now!\n"
MESSAGES = [LabelledText("See you at 5 £", 0), LabelledText("WIN\ta kite now!", 1)]


def zipped(content: bytes, name: str = "SMSSpamCollection") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme", "A text.")
        archive.writestr(name, content)
    return stream.getvalue()


ARCHIVE = zipped(LINES.encode())


@pytest.mark.parametrize("text", [LINES, LINES[:-1], LINES.replace("\n", "\r\n")])
def test_messages_are_read_as_they_are_written(text: str) -> None:
    assert parse_sms_spam(text) == MESSAGES


@pytest.mark.parametrize("line", ["eggs\tbacon", "spam", "spam\t ", "Ham\thello", "\t"])
def test_other_lines_are_refused_with_their_place(line: str) -> None:
    with pytest.raises(ValueError, match="mend the line") as caught:
        parse_sms_spam(f"{LINES}{line}\nham\tlater\n", "inbox.tsv")
    assert str(caught.value).startswith(f"inbox.tsv:3: {line!r}")


def test_files_that_are_there_already(tmp_path: Path) -> None:
    (tmp_path / "sms.zip").write_bytes(ARCHIVE)
    (tmp_path / "sms.tsv").write_bytes(LINES.encode())
    assert load_sms_spam(tmp_path / "sms.zip") == MESSAGES
    assert load_sms_spam(str(tmp_path / "sms.tsv")) == MESSAGES


@pytest.mark.parametrize(
    "content, match",
    [
        (zipped(b"ham\thi\n", "other.tsv"), "SMSSpamCollection.*delete it"),
        (zipped(b"ham\t\xff\n"), "UTF-8; delete it, and fetch https://"),
        (b"ham\t\xff\n", "UTF-8; delete it, and fetch https://"),
        (zipped(b"ham\thi\noops\n"), r"SMSSpamCollection:2: 'oops'"),
        (b"<html>Not found</html>", r"sms:1: '<html>Not found"),
    ],
)
def test_files_of_another_kind_say_what_to_do(
    content: bytes, match: str, tmp_path: Path
) -> None:
    path = tmp_path / "sms"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        load_sms_spam(path)
    assert str(path) in str(caught.value)


def test_an_archive_damaged_within_is_refused(tmp_path: Path) -> None:
    spoilt = bytearray(ARCHIVE)
    spoilt[spoilt.index(b"WIN")] ^= 1  # the archive stores it as it is
    (tmp_path / "sms.zip").write_bytes(spoilt)
    with pytest.raises(ValueError, match=r"Bad CRC-32.*delete it"):
        load_sms_spam(tmp_path / "sms.zip")


class Handler(BaseHTTPRequestHandler):
    log: list[str | None]

    def do_HEAD(self) -> None:
        self.send_error(404)

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.log.append(wanted)
        start = int(wanted[6:-1]) if wanted else 0
        body = ARCHIVE[start:]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        breaks = len(self.log) == 1  # the first transfer stops half way
        self.wfile.write(body[: len(body) // 2] if breaks else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[str | None]]:
    """Serves the small archive in the place of the real one; what was asked for."""
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Handler.log = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        url = f"http://127.0.0.1:{running.server_port}/sms.zip"
        digest = hashlib.sha256(ARCHIVE).hexdigest()
        file = replace(SMS_SPAM, url=url, sha256=digest)
        monkeypatch.setattr(classification, "SMS_SPAM", file)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield Handler.log
        running.shutdown()
        thread.join()


def test_a_transfer_goes_on_and_is_made_once(server: list[str | None]) -> None:
    with pytest.raises(DownloadError, match="Call again to go on"):
        load_sms_spam()
    assert load_sms_spam() == MESSAGES
    assert server == [None, f"bytes={len(ARCHIVE) // 2}-"]
    assert load_sms_spam() == MESSAGES
    assert len(server) == 2


def test_given_data_must_be_the_right_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path))
    place = tmp_path / SMS_SPAM.path
    place.parent.mkdir()
    place.write_bytes(ARCHIVE)
    with pytest.raises(ValueError, match=r"SHA-256.*delete it"):
        load_sms_spam()
    digest = hashlib.sha256(ARCHIVE).hexdigest()
    monkeypatch.setattr(classification, "SMS_SPAM", replace(SMS_SPAM, sha256=digest))
    assert load_sms_spam() == MESSAGES


def test_offline_says_what_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = replace(SMS_SPAM, url="http://127.0.0.1:9/none.zip")
    monkeypatch.setattr(classification, "SMS_SPAM", file)
    with pytest.raises(DownloadError) as caught:
        load_sms_spam(timeout=2)
    assert file.url in str(caught.value)
    assert str(tmp_path / "extracted" / SMS_SPAM.path) in str(caught.value)


# Several seeds


@pytest.mark.parametrize("runs", range(2, 11))
def test_the_t_interval_holds_95_percent_of_students_density(runs: int) -> None:
    mean, half = t_interval(list(range(runs)))
    assert mean == (runs - 1) / 2
    quantile = half / (stdev(range(runs)) / runs**0.5)
    nu = runs - 1
    scale = math.gamma((nu + 1) / 2) / (math.sqrt(nu * math.pi) * math.gamma(nu / 2))
    width = quantile / 20_000
    middles = (width * (i + 0.5) for i in range(20_000))
    density = (scale * (1 + x * x / nu) ** (-(nu + 1) / 2) for x in middles)
    assert 2 * width * sum(density) == pytest.approx(0.95, abs=1e-4)


def test_an_interval_needs_two_runs() -> None:
    with pytest.raises(ValueError, match="2 to 10"):
        t_interval([1.0])
