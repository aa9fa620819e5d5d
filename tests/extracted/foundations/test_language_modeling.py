"""The world against a reader of its text, the models against torch, the loader
against servers that fail."""

import hashlib
import math
import os
import random
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice, pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    GRAMMAR,
    TEXTS,
    WORDS,
    BigramModel,
    Dice,
    DownloadError,
    NeuralBigram,
    Probe,
    RemoteFile,
    Vocabulary,
    bits_per_byte,
    chance,
    cross_entropy,
    download,
    generate_probes,
    generate_stories,
    iterate_stories,
    load_text,
    perplexity,
    probe_accuracy,
    sample_tokens,
    split_of,
    stated_sha256,
)

NAMES = set(WORDS["boy"] + WORDS["girl"])
PLACES, THINGS = set(WORDS["place"]), set(WORDS["thing"])


def take(count, **options):
    return list(islice(iterate_stories(**options), count))


# ------------------------------------------------------------------- the world


def test_the_corpus_is_the_same_on_every_machine():
    text = END_OF_TEXT.join(generate_stories(200))
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "d649b61fecb01850ae7a423f829c4a4d5e81da089e95ef8e8642605fa22f72de"
    )


def test_a_longer_corpus_begins_with_the_shorter_one():
    assert generate_stories(40)[:15] == generate_stories(15)
    assert generate_probes(40)[:15] == generate_probes(15)


def test_seeds_and_splits_differ():
    corpora = [
        generate_stories(50, seed=seed, split=split)
        for seed in (0, 1, 2)
        for split in ("train", "validation")
    ]
    stories = [story for corpus in corpora for story in corpus]
    assert len(set(stories)) == len(stories)


def first_mentions(text):
    """The facts as a reader finds them: first names, things and place."""
    words = list(dict.fromkeys(re.findall(r"\w+", text)))
    names = [word for word in words if word in NAMES]
    things = [word for word in words if word in THINGS]
    place = next(word for word in words if word in PLACES)
    return (*names[:2], *things[:2], place)


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_split_can_be_read_off_the_text(split):
    """No story can occur in both splits: the text alone decides where it belongs."""
    for story in take(400, seed=5, split=split):
        assert first_mentions(story.text) == story.facts
        assert split_of(first_mentions(story.text)) == split


def test_a_tenth_of_all_facts_are_held_out():
    rng = random.Random(0)
    facts = ([rng.choice("abcdefghij") for _ in range(5)] for _ in range(5000))
    held_out = sum(split_of(f) == "validation" for f in facts) / 5000
    assert abs(held_out - 26 / 256) < 0.02


@pytest.mark.parametrize("make", [generate_stories, generate_probes])
def test_bad_requests_are_refused(make):
    with pytest.raises(ValueError, match=r"'test'.*train.*validation"):
        make(1, split="test")
    with pytest.raises(ValueError):
        make(-1)
    assert make(0) == []


def test_a_bad_split_is_refused_before_the_first_story():
    with pytest.raises(ValueError, match="'Train'"):
        iterate_stories(split="Train")


def test_words_do_not_occur_by_accident():
    """Names, things, places and colours come from the facts and from nowhere else."""
    rules = " ".join(rule for rules in GRAMMAR.values() for rule in rules)
    fixed = set(re.findall(r"\w+", re.sub(r"\{\w+\}|<\w+", "", rules)))
    lists = [WORDS[k] for k in ("boy", "girl", "thing", "place", "colour", "item")]
    words = [word for words in lists for word in words]
    assert not fixed & set(words)
    assert len(set(words)) == len(words)
    assert not set(words) & set(WORDS["trait"] + WORDS["role"] + WORDS["kin"])


def test_articles_fit():
    after_a = WORDS["trait"] + WORDS["role"] + WORDS["kin"] + WORDS["colour"]
    assert not [word for word in after_a if word[0] in "aeiou"]


def test_no_candidate_begins_another():
    obstacles = [line.split("/")[1] for line in GRAMMAR["cause"]]
    kinds = [WORDS[k] for k in ("thing", "place", "colour")]
    for words in (*kinds, WORDS["boy"] + WORDS["girl"], obstacles):
        for word in words:
            assert [w for w in words if w.startswith(word)] == [word]


def test_the_corpus_is_varied_and_plain():
    stories = generate_stories(3000)
    text = "\n".join(stories)
    lengths = [len(story.split()) for story in stories]
    assert len(set(stories)) >= 2998
    assert min(lengths) > 50 and max(lengths) < 190
    assert 90 < sum(lengths) / len(lengths) < 125
    assert 400 < len(set(re.findall(r"\w+", text))) < 800
    assert text.isascii()
    assert all(len(story.splitlines()) == 1 for story in stories)
    assert "  " not in text and END_OF_TEXT not in text
    assert not re.search(r"[\[\]{}<>|/]", text)


def test_a_megabyte_takes_moments():
    start = time.process_time()
    assert len("".join(generate_stories(2000))) > 1_000_000
    assert time.process_time() - start < 4


class Reader:
    """Reads a story sentence by sentence and keeps its own account of the world."""

    def __init__(self, text):
        names = [w for w in re.findall(r"\w+", text) if w in NAMES]
        self.hero, self.friend = list(dict.fromkeys(names))[:2]
        self.at, self.items = {}, None
        self.owned, self.colours = {}, {}
        self.holder, self.spot = self.hero, None
        self.thing = self.obstacle = None

    def read(self, sentence):
        def found(pattern):
            self.match = re.search(pattern, sentence)
            return self.match

        name = r"([A-Z]\w+)"
        belongings = re.findall(
            rf"{name} (?:had bought|had made|had found|always carried|had|owned|"
            rf"loved|liked) (?:a|his|her) ({'|'.join(WORDS['colour'])}) (\w+)",
            sentence,
        )
        for owner, colour, thing in belongings:
            self.owned[thing], self.colours[owner] = owner, colour
            self.thing = self.thing or thing
        if belongings:
            return
        if found(rf"{name} and {name} \w+ in the (\w+), while {name} \w+ in the (\w+)"):
            hero, friend, place, other, elsewhere = self.match.groups()
            self.at = {hero: place, friend: place, other: elsewhere}
        elif found(
            rf"{name} (?:came|went) to the (\w+) with the \w+ and \w+ {name} there"
        ):
            hero, place, friend = self.match.groups()
            self.at |= {hero: place, friend: place}
        elif found(rf"{name} was (?:alone )?in the (\w+)\.$") and len(self.at) == 2:
            self.at[self.match[1]] = self.match[2]
        elif found(r"(?:so|why|of that) the (\w+) was (\w+)"):
            self.obstacle = self.match[1]
        elif found(rf"{name} had (\d+) |were (\d+) ") and self.items is None:
            self.items = int(self.match[2] or self.match[3])
        elif found(r"(\d+) more\.$"):
            self.items += int(self.match[1])
        elif found(r"(?:gave (\d+) to|(?:lost|dropped|sold) (\d+) of)"):
            self.items -= int(self.match[1] or self.match[2])
        elif found(rf"{name} (?:took|carried|brought) the \w+ to the (\w+)") or found(
            rf"{name} (?:went|walked|ran) to the (\w+) with the"
        ):
            assert self.holder == self.match[1], sentence
            self.at[self.match[1]] = self.match[2]
        elif found(rf"{name} (?:went|walked|ran|hurried) to the (\w+)"):
            assert self.holder != self.match[1], sentence
            self.at[self.match[1]] = self.match[2]
        elif (
            found(rf"{name} (?:gave|handed|lent|passed) the {self.thing} to {name}")
            or found(rf"the {self.thing},\" said {name} to {name}")
            or found(rf"so {name} (?:gave|passed) it to {name}")
        ):
            giver, taker = self.match.groups()
            assert self.holder == giver and self.at[giver] == self.at[taker], sentence
            self.holder = taker
        elif found(rf"{name} (?:put|set|laid) the {self.thing} down") or found(
            rf"{name} (?:dropped|forgot) the {self.thing} there"
        ):
            assert self.holder == self.match[1], sentence
            self.holder, self.spot = None, self.at[self.match[1]]
        elif found(rf"{name} (?:picked up|took|found) the {self.thing}"):
            assert self.holder is None and self.spot == self.at[self.match[1]], sentence
            self.holder = self.match[1]

    def answer(self, kind, question):
        """What the story says, at the place where `question` breaks off."""
        if kind == "number":
            return str(self.items)
        if kind == "cause":
            return self.obstacle
        if kind == "person":
            return self.holder
        if kind == "place":
            here = self.at[self.holder] if self.holder else self.spot
            who = re.search(
                r"(?:Where is|wanted|needed|looked for|missed) ([A-Z]\w+)", question
            ) or re.search(r"([A-Z]\w+) was (?:now|still)", question)
            return self.at[who[1]] if who else here
        if kind == "thing":
            colour = question.split()[-1]
            owner = next(o for o, c in self.colours.items() if c == colour)
            return next(t for t, o in self.owned.items() if o == owner)
        owner = re.findall(r"[A-Z]\w+", question.removeprefix("That").strip())[-1]
        return self.colours[owner]


def sentences(text):
    """Cut behind full stops, keeping each question together with its answer."""
    parts = re.split(r'(?<=[.?!])(?= )|(?<=[.?!]")(?= [A-Z])', text)
    joined = [""]
    for part in parts:
        joined[-1] += part
        asked = re.search(
            r"asked [A-Z]\w+\.$|(?:looked for|missed) [A-Z]\w+\.$|"
            r'\?"$|^ "[^"]*$',
            joined[-1],
        )
        if not asked:
            joined.append("")
    return [sentence for sentence in joined if sentence]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("split", ["train", "validation"])
def test_every_answer_follows_from_the_text(seed, split):
    """An independent reader of the sentences comes to the answers of all probes."""
    asked = Counter()
    for story in take(300, seed=seed, split=split):
        reader, position = Reader(story.text), 0
        for sentence in sentences(story.text):
            end = position + len(sentence)
            inside = [p for p in story.probes if position <= len(p.prompt) < end]
            for probe in inside:
                question = story.text[position : len(probe.prompt)]
                answer = reader.answer(probe.kind, question)
                assert probe.answer == f" {answer}", (story.text, probe)
                asked[probe.kind] += 1
            if not inside:
                reader.read(sentence.strip())
            position = end
        assert position == len(story.text)
    assert set(asked) == {"person", "place", "thing", "colour", "cause", "number"}


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=-(10**9), max_value=10**9))
def test_probes_are_fair(seed):
    for story in take(3, seed=seed, split="train"):
        for probe in story.probes:
            assert story.text.startswith(probe.prompt + probe.answer)
            assert not story.text[len(probe.prompt + probe.answer)].isalnum()
            assert probe.answer in probe.candidates
            assert list(probe.candidates) == sorted(set(probe.candidates))
            assert len(probe.candidates) >= 2
            assert all(re.fullmatch(r" \w+", c) for c in probe.candidates)
            told = set(re.findall(r"\w+", probe.prompt))
            told_candidates = [c for c in probe.candidates if c[1:] in told]
            if probe.kind == "cause":
                assert told_candidates == [probe.answer]
                assert len(probe.candidates) == 4
            elif probe.kind == "number":
                assert len({len(c) for c in probe.candidates}) == 1
                assert len(probe.candidates) == 4
            else:
                assert told_candidates == list(probe.candidates)


def test_probes_come_from_the_stories_of_their_split():
    stories = take(30, seed=3, split="validation")
    expected = [probe for story in stories for probe in story.probes]
    assert generate_probes(len(expected), seed=3) == expected


def test_the_position_of_the_answer_says_nothing():
    probes = [p for p in generate_probes(4000) if len(p.candidates) == 2]
    first = sum(p.candidates[0] == p.answer for p in probes) / len(probes)
    assert abs(first - 0.5) < 0.05


def test_dice_count_bits_by_hand():
    dice = Dice(random.Random(0))
    dice.pick("abcdefgh")
    assert dice.bits == 3
    assert len(set(dice.sample("abcd", 2))) == 2
    assert math.isclose(dice.bits, 3 + 2 + math.log2(3))
    before = dice.bits
    cost = 2 if dice.chance(0.25) else -math.log2(0.75)
    assert math.isclose(dice.bits - before, cost)


def test_dice_are_fair():
    dice = Dice(random.Random(1))
    counts = Counter(dice.below(5) for _ in range(20_000))
    assert all(abs(counts[k] / 20_000 - 0.2) < 0.015 for k in range(5))
    assert abs(sum(dice.chance(0.3) for _ in range(20_000)) / 20_000 - 0.3) < 0.015


def test_the_floor_is_an_entropy():
    """The bits of a story's opening agree with its frequency among many stories."""
    stories = take(3000)
    assert all(80 < story.bits < 220 for story in stories)
    boys = sum(s.facts[0] in WORDS["boy"] for s in stories) / 3000
    assert abs(boys - 0.5) < 0.04
    floor = sum(s.bits for s in stories) / sum(len(s.text) for s in stories)
    assert 0.19 < floor < 0.24


# ------------------------------------------------------------------ the models


@given(st.text(max_size=60))
def test_a_vocabulary_gives_the_text_back(text):
    vocabulary = Vocabulary(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == torch.long and ids.shape == (len(text),)
    assert vocabulary.decode(ids.tolist()) == text
    assert len(vocabulary) == len(set(text))


def test_a_vocabulary_of_words():
    vocabulary = Vocabulary(["to", " be", " or", " not", "to", " be"])
    assert vocabulary.pieces == [" be", " not", " or", "to"]
    assert vocabulary.encode(["to", " be"]).tolist() == [3, 0]


def test_a_stranger_is_refused():
    with pytest.raises(ValueError, match="'z' is not in the vocabulary of 2 pieces"):
        Vocabulary("ab").encode("abz")


def test_counting_by_hand():
    """The text abaab: after a came b, a, b; after b came a."""
    model = BigramModel(3, smoothing=1.0).fit(torch.tensor([0, 1, 0, 0, 1]))
    assert model.counts.tolist() == [[1, 2, 0], [1, 0, 0], [0, 0, 0]]
    expected = torch.tensor([[2, 3, 1], [2, 1, 1], [1, 1, 1]]) / torch.tensor(
        [[6], [4], [3]]
    )
    assert torch.allclose(model.probabilities(), expected.double())
    logits = model(torch.tensor([[1, 0]]))
    assert logits.shape == (1, 2, 3) and logits.dtype == torch.float32
    assert torch.allclose(logits.exp(), expected[[1, 0]][None])


@given(st.lists(st.integers(0, 5), min_size=2, max_size=80))
def test_counts_are_the_pairs(ids):
    model = BigramModel(6).fit(torch.tensor(ids))
    pairs = Counter(pairwise(ids))
    for i in range(6):
        for j in range(6):
            assert model.counts[i, j] == pairs[i, j]
    assert torch.allclose(model.probabilities().sum(1), torch.ones(6).double())


def test_fitting_twice_adds_up():
    a, b = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1, 1])
    both = BigramModel(2).fit(a).fit(b)
    assert both.counts.tolist() == [[0, 2], [1, 2]]


def test_smoothing_has_its_limits():
    ids = torch.tensor([0, 1, 0, 1, 2, 0])
    heavy = BigramModel(4, smoothing=1e9).fit(ids).probabilities()
    assert torch.allclose(heavy, torch.full((4, 4), 0.25).double(), atol=1e-6)
    none = BigramModel(4, smoothing=0).fit(ids).probabilities()
    assert none[1].tolist() == [0.5, 0, 0.5, 0]
    assert none[3].tolist() == [0.25] * 4, "a row never seen is uniform, not nan"
    with pytest.raises(ValueError, match=r"-0\.1"):
        BigramModel(4, smoothing=-0.1)


@pytest.mark.parametrize("shape", [(7,), (2, 5), (2, 3, 4)])
def test_cross_entropy_is_torchs(shape):
    torch.manual_seed(0)
    logits = (torch.randn(*shape, 9) * 5).requires_grad_()
    targets = torch.randint(9, shape)
    ours = cross_entropy(logits, targets)
    oracle = F.cross_entropy(logits.flatten(0, -2), targets.flatten())
    assert torch.allclose(ours, oracle)
    (gradient,) = torch.autograd.grad(ours, logits)
    expected = logits.softmax(-1) - F.one_hot(targets, 9)
    assert torch.allclose(gradient, expected / targets.numel(), atol=1e-6)


def test_cross_entropy_of_extreme_logits():
    assert cross_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([0])) == 0
    assert cross_entropy(torch.tensor([[1e4, 0.0]]), torch.tensor([1])) == 1e4
    impossible = torch.tensor([[0.0, -math.inf]])
    assert cross_entropy(impossible, torch.tensor([1])) == math.inf


def test_units():
    uniform = cross_entropy(torch.zeros(10, 256), torch.arange(10)).item()
    assert math.isclose(perplexity(uniform), 256, rel_tol=1e-5)
    same = bits_per_byte(uniform, num_tokens=10, num_bytes=10)
    assert math.isclose(same, 8, rel_tol=1e-6)
    assert math.isclose(bits_per_byte(math.log(2), num_tokens=3, num_bytes=12), 0.25)
    for tokens, size in ((0, 4), (4, 0)):
        with pytest.raises(ValueError, match=f"{tokens} tokens, {size} bytes"):
            bits_per_byte(1.0, num_tokens=tokens, num_bytes=size)


def test_bits_per_byte_does_not_depend_on_the_cut():
    """Unigram models of letters and of fixed pairs of letters agree on a text whose
    pairs are independent."""
    text = "ab" * 32 + "cd" * 32
    pieces = [text[i : i + 2] for i in range(0, len(text), 2)]
    cost = []
    for cut in (list(text), pieces):
        counts = Counter(cut)
        loss = -sum(math.log(counts[p] / len(cut)) for p in cut) / len(cut)
        cost.append(bits_per_byte(loss, num_tokens=len(cut), num_bytes=len(text)))
    assert math.isclose(cost[0], 2) and math.isclose(cost[1], 0.5)


def test_the_learned_table_becomes_the_counted_one():
    text = "".join(generate_stories(3))[:600]
    vocabulary = Vocabulary(text)
    ids = vocabulary.encode(text)
    torch.manual_seed(0)
    model = NeuralBigram(len(vocabulary))
    assert model(ids[None, :5]).shape == (1, 5, len(vocabulary))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.2)
    for _ in range(400):
        loss = cross_entropy(model(ids[None, :-1]), ids[None, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    counted = BigramModel(len(vocabulary), smoothing=0).fit(ids)
    best = cross_entropy(counted(ids[None, :-1]), ids[None, 1:])
    assert 0 <= loss - best < 2e-3
    seen = counted.counts.sum(1) > 0
    learned = model.table.weight.softmax(1)[seen]
    assert torch.allclose(learned, counted.probabilities()[seen].float(), atol=0.02)


def test_samples_follow_the_table():
    table = torch.tensor([[0.1, 0.9, 0.0], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])

    def model(ids):
        return table.log()[ids]

    generator = torch.Generator().manual_seed(0)
    ids = sample_tokens(
        model, torch.zeros(50, 1).long(), count=400, generator=generator
    )
    assert ids.shape == (50, 401)
    counted = BigramModel(3, smoothing=0)
    for row in ids:
        counted.fit(row)
    assert torch.allclose(counted.probabilities().float(), table, atol=0.02)


def test_sampling_is_a_function_of_the_generator():
    model = BigramModel(5)
    start = torch.tensor([[3], [4]])
    runs = [
        sample_tokens(
            model, start, count=30, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])
    assert torch.equal(runs[0][:, :1], start)
    assert torch.equal(sample_tokens(model, start, count=0), start)


def test_sampling_keeps_no_graph():
    ids = sample_tokens(NeuralBigram(4), torch.tensor([[0]]), count=3)
    assert not ids.requires_grad and ids.shape == (1, 4)


def test_probe_accuracy_by_hand():
    probes = [
        Probe("p", " a", (" a", " b"), "thing"),
        Probe("q", " b", (" a", " b", " c", " d"), "thing"),
    ]
    assert chance(probes) == 0.375
    assert probe_accuracy(lambda p, c: -ord(c[1]), probes) == 0.5
    assert probe_accuracy(lambda p, c: 0.0, probes) == chance(probes)
    assert probe_accuracy(lambda p, c: float(c in " a b"), probes) == 0.5
    prompts = set()
    probe_accuracy(lambda p, c: prompts.add(p) or 0.0, probes)
    assert prompts == {"p", "q"}


def test_counting_pairs_does_not_understand():
    vocabulary = Vocabulary("\n".join(generate_stories(300)))
    ids = vocabulary.encode("\n".join(generate_stories(300)))
    table = BigramModel(len(vocabulary), smoothing=0.1).fit(ids).probabilities().log()

    def log_prob(prompt, continuation):
        pair = vocabulary.encode(prompt[-1] + continuation)
        return table[pair[:-1], pair[1:]].sum().item()

    probes = generate_probes(1500)
    assert abs(probe_accuracy(log_prob, probes) - chance(probes)) < 0.05
    truth = {(p.prompt, p.answer) for p in probes}
    assert probe_accuracy(lambda p, c: float((p, c) in truth), probes) == 1


# ------------------------------------------------------------------ the loader

DATA = bytes(range(256)) * 400  # 102,400 bytes
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves DATA; the server's `behaviour` says how it fails."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.log.append(asked)
        behaviour = server.behaviours.pop(0) if server.behaviours else "good"
        start = int(asked[6:-1]) if asked and behaviour != "no ranges" else 0
        if behaviour == "missing":
            return self.send_error(404)
        if start >= len(DATA):
            return self.send_error(416)
        body = DATA[start:] if behaviour != "wrong" else b"x" * len(DATA)
        if behaviour == "stall":
            time.sleep(1.5)
        self.send_response(206 if start else 200)
        if behaviour != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:1000] if behaviour == "break" else body)

    def do_HEAD(self):
        server = self.server
        server.asked.append(self.path)
        moved = server.moved.get(self.path)
        self.send_response(302 if moved else 200)
        if moved:
            self.send_header("Location", moved)
        if moved is None or "elsewhere" in moved:
            self.send_header("X-Linked-Etag", server.stated)
        self.end_headers()

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.log, server.behaviours = [], []
    server.asked, server.moved, server.stated = [], {}, "nothing"
    server.handle_error = lambda *_: None  # a client that hung up is no news
    server.url = f"http://127.0.0.1:{server.server_port}/data.bin"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "extracted"


def files(directory: Path):
    return sorted(p.name for p in directory.iterdir())


def test_download(server, tmp_path):
    to = tmp_path / "deep" / "data.bin"
    assert download(server.url, SHA256, to=to) == to
    assert to.read_bytes() == DATA and files(to.parent) == ["data.bin"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path):
    server.behaviours = ["break", "break"]
    to = tmp_path / "data.bin"
    for stopped_at in (1000, 2000):
        with pytest.raises(DownloadError, match="received 1000 of"):
            download(server.url, SHA256, to=to)
        assert files(tmp_path) == ["data.bin.part"]
        assert (tmp_path / "data.bin.part").stat().st_size == stopped_at
    download(server.url, SHA256, to=to)
    assert server.log == [None, "bytes=1000-", "bytes=2000-"]
    assert to.read_bytes() == DATA and files(tmp_path) == ["data.bin"]


def test_a_server_without_ranges_starts_over(server, tmp_path):
    server.behaviours = ["break", "no ranges"]
    to = tmp_path / "data.bin"
    with pytest.raises(DownloadError):
        download(server.url, SHA256, to=to)
    assert download(server.url, SHA256, to=to).read_bytes() == DATA


def test_a_part_that_is_already_complete(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(DATA)
    to = tmp_path / "data.bin"
    assert download(server.url, SHA256, to=to).read_bytes() == DATA
    assert server.log == [f"bytes={len(DATA)}-"]


def test_a_part_of_something_else_is_not_kept(server, tmp_path):
    (tmp_path / "data.bin.part").write_bytes(b"another version")
    to = tmp_path / "data.bin"
    with pytest.raises(DownloadError, match=f"expected {SHA256}"):
        download(server.url, SHA256, to=to)
    assert files(tmp_path) == []
    assert download(server.url, SHA256, to=to).read_bytes() == DATA


def test_a_wrong_file_never_gets_the_name(server, tmp_path):
    server.behaviours = ["wrong"]
    to = tmp_path / "data.bin"
    to.write_bytes(b"precious")
    with pytest.raises(DownloadError) as caught:
        download(server.url, SHA256, to=to)
    assert server.url in str(caught.value) and str(to) in str(caught.value)
    assert to.read_bytes() == b"precious" and files(tmp_path) == ["data.bin"]


def test_without_a_checksum_halves_are_not_joined(server, tmp_path):
    server.behaviours = ["break"]
    to = tmp_path / "data.bin"
    with pytest.raises(DownloadError):
        download(server.url, None, to=to)
    assert not to.exists()
    assert download(server.url, None, to=to).read_bytes() == DATA
    assert server.log == [None, None]


def test_a_server_that_does_not_say_the_length(server, tmp_path):
    server.behaviours = ["no length"]
    to = tmp_path / "data.bin"
    assert download(server.url, SHA256, to=to).read_bytes() == DATA


def test_a_server_that_stalls(server, tmp_path):
    server.behaviours = ["stall"]
    with pytest.raises(DownloadError, match="timed out"):
        download(server.url, SHA256, to=tmp_path / "data.bin", timeout=0.2)


@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_missing_file(server, tmp_path, sha256):
    server.behaviours = ["missing"]
    with pytest.raises(DownloadError, match="404"):
        download(server.url, sha256, to=tmp_path / "data.bin")
    assert files(tmp_path) == []


def offline_url():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    return f"http://127.0.0.1:{port}/data.bin"


def test_offline_says_what_to_put_where(cache):
    url = offline_url()
    with pytest.raises(DownloadError) as caught:
        RemoteFile(url, "set/data.bin", SHA256).fetch(timeout=2)
    assert url in str(caught.value)
    assert str(cache / "set" / "data.bin") in str(caught.value)
    assert isinstance(caught.value, OSError)
    assert stated_sha256(url, timeout=2) is None


def test_fetching_once_is_enough(server, cache):
    file = RemoteFile(server.url, "set/data.bin", SHA256)
    assert file.fetch() == cache / "set" / "data.bin"
    assert file.fetch().read_bytes() == DATA
    assert len(server.log) == 1 and files(cache / "set") == ["data.bin"]


def test_the_home_directory_is_the_last_resort(server, monkeypatch, tmp_path):
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    path = RemoteFile(server.url, "data.bin", SHA256).fetch()
    assert path == tmp_path / ".cache" / "extracted" / "data.bin"


def test_given_data_come_first_and_are_never_written(
    server, cache, tmp_path, monkeypatch
):
    given_data = tmp_path / "given"
    given_data.mkdir()
    monkeypatch.setenv("EXTRACTED_DATA", str(given_data))
    file = RemoteFile(server.url, "data.bin", SHA256)
    assert file.fetch() == cache / "data.bin", "what is not given is fetched"
    assert files(given_data) == []
    (given_data / "data.bin").write_bytes(DATA)
    assert file.fetch() == given_data / "data.bin"
    assert len(server.log) == 1


@pytest.mark.parametrize("place", ["given", "cache"])
def test_damaged_local_files_are_refused(server, cache, tmp_path, monkeypatch, place):
    folder = {"given": tmp_path / "given", "cache": cache}[place]
    folder.mkdir(parents=True)
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path / "given"))
    (folder / "data.bin").write_bytes(DATA[:-1])
    with pytest.raises(ValueError, match="delete it") as caught:
        RemoteFile(server.url, "data.bin", SHA256).fetch()
    assert str(folder / "data.bin") in str(caught.value)
    assert server.log == [], "a user's file is never replaced"


def test_a_file_without_checksum_may_not_change(server, cache):
    file = RemoteFile(server.url, "data.bin")
    path = file.fetch()
    assert file.fetch() == path and len(server.log) == 1
    path.write_bytes(DATA[::-1])
    with pytest.raises(ValueError, match=SHA256):
        file.fetch()


def test_a_checksum_that_the_server_states(server, cache):
    server.stated, server.behaviours = f'"{SHA256}"', ["break"]
    file = RemoteFile(server.url, "data.bin")
    with pytest.raises(DownloadError):
        file.fetch()
    path = file.fetch()
    assert server.log == [None, "bytes=1000-"], "halves that can be checked are joined"
    assert path.read_bytes() == DATA
    path.write_bytes(DATA[::-1])
    with pytest.raises(ValueError, match=SHA256):
        file.fetch()
    assert len(server.asked) == 2, "who has the file asks nobody"


def test_a_stated_checksum_that_does_not_fit(server, cache):
    server.stated = "0" * 64
    with pytest.raises(DownloadError, match=f"SHA-256 {SHA256}, expected 000"):
        RemoteFile(server.url, "data.bin").fetch()
    assert files(cache) == []


def test_stated_checksums_are_read_before_the_file_is_sent_for(server):
    server.stated = SHA256
    server.moved = {
        "/old": "/new",
        "/new": "http://elsewhere.invalid/data.bin",
    }
    url = server.url.replace("/data.bin", "/old")
    assert stated_sha256(url) == SHA256
    assert server.asked == ["/old", "/new"] and server.log == []


@pytest.mark.parametrize("stated", ["nothing", "W/1234", "a" * 40])
def test_other_tags_are_no_checksums(server, stated):
    server.stated = stated
    assert stated_sha256(server.url) is None


def test_load_text_reads_given_files(tmp_path, monkeypatch):
    play = "First Citizen:\nBefore we proceed any further, hear me speak. é\n"
    path = tmp_path / "tinyshakespeare" / "input.txt"
    path.parent.mkdir()
    path.write_text(play, encoding="utf-8")
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="SHA-256"):
        load_text("tiny_shakespeare")
    right = RemoteFile(
        "http://nowhere.invalid/input.txt",
        "tinyshakespeare/input.txt",
        hashlib.sha256(play.encode()).hexdigest(),
    )
    monkeypatch.setitem(TEXTS, "tiny_shakespeare", right)
    assert load_text("tiny_shakespeare") == play


def test_load_text_knows_its_texts():
    with pytest.raises(ValueError, match="tiny_shakespeare, tiny_stories"):
        load_text("war_and_peace")
    for file in TEXTS.values():
        assert file.url.startswith("https://")
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)
        assert not Path(file.path).is_absolute()


def test_the_real_tiny_shakespeare():
    given_data = os.environ.get("EXTRACTED_DATA")
    if not given_data or not Path(given_data, TEXTS["tiny_shakespeare"].path).exists():
        pytest.skip("set EXTRACTED_DATA to a directory with tinyshakespeare/input.txt")
    text = load_text("tiny_shakespeare")
    assert len(text) == 1_115_394 and text.startswith("First Citizen:\n")
