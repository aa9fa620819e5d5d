# Generated from book/foundations/language_modeling.md; do not edit (669f59df70f4)
"""Predict the next token by counting and by gradient descent, and measure how well and
how much is understood.
"""

# %% book/foundations/language_modeling.md#END_OF_TEXT
import hashlib
import http.client
import math
import os
import random
import re
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

END_OF_TEXT = "<|endoftext|>"
_Item = TypeVar("_Item")
_CHOICE = re.compile(r"\[([^\]]*)\]")
_MARK = re.compile(r" <(\w+) (\w+)>")


# %% book/foundations/language_modeling.md#Probe
@dataclass(frozen=True)
class Probe:
    """A story cut off before a word that the story so far decides.

    `answer` and all `candidates` begin with the space before the word, and
    none is the beginning of another. The wrong ones of a "person", "place",
    "thing" or "colour" are the others in the story; of a "cause", three that
    are not; of a "number", three close to the answer.
    """

    prompt: str
    answer: str
    candidates: tuple[str, ...]
    kind: str


@dataclass(frozen=True)
class Story:
    """A story, its checkable facts and where it comes from.

    `facts` are the hero, the friend, their things and the first place. `bits`
    is the information in the choices that made the text: no less than -log2
    of the probability that the generator gives to it.
    """

    text: str
    probes: tuple[Probe, ...]
    facts: tuple[str, ...]
    bits: float


def split_of(facts: Sequence[str]) -> str:
    """The split of all stories with these facts: a tenth are "validation"."""
    digest = hashlib.sha256(" ".join(facts).encode()).digest()
    return "validation" if digest[0] < 26 else "train"


class Dice:
    """Random choices, and the bits of information in them so far.

    Uses only `random()`, whose sequence Python keeps for a given seed.
    """

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.bits = 0.0

    def below(self, n: int) -> int:
        self.bits += math.log2(n)
        return int(self.rng.random() * n)

    def pick(self, options: Sequence[_Item]) -> _Item:
        return options[self.below(len(options))]

    def sample(self, options: Sequence[_Item], count: int) -> list[_Item]:
        pool = list(options)
        return [pool.pop(self.below(len(pool))) for _ in range(count)]

    def chance(self, p: float) -> bool:
        hit = self.rng.random() < p
        self.bits -= math.log2(p if hit else 1 - p)
        return hit


# %% book/foundations/language_modeling.md#_entries
def _entries(text: str) -> dict[str, list[str]]:
    """Lines `name: value`, grouped by name; an indented line goes on."""
    table: dict[str, list[str]] = {}
    for entry in re.split(r"\n(?=\S)", text.strip()):
        name, _, value = entry.partition(": ")
        table.setdefault(name, []).append(" ".join(value.split()))
    return table


WORDS = {
    name: " ".join(lines).split()
    for name, lines in _entries("""
boy: Tom Ben Sam Max Leo Finn Jack Noah Omar Hugo Theo Paul Ravi Otto Karl
  Emil Luis Ivan Yusuf Pete
girl: Mia Anna Lucy Ruth Zoe Nora Ella Ivy Rosa Jane Lily Kate Wren Dora Mei
  Sofia Tara Greta Hana Vera
role: child farmer sailor baker painter tailor miller singer dancer gardener
kin: friend neighbour cousin teacher twin
trait: brave calm careful cheerful clever curious funny gentle happy kind lazy
  lively loud merry patient polite proud quiet sleepy shy small strong tall
  thoughtful tiny wise
colour: red blue green yellow white black brown purple pink grey golden silver
thing: kite ball drum lamp hat bell book cup doll key map pipe scarf flute
  basket blanket mirror lantern whistle spoon ring box coat fan puppet ribbon
  pillow bucket brush needle violin trumpet teapot hammer shovel ladder carpet
  compass medal vase
place: kitchen garden barn park forest cave attic library school shop bakery
  tower castle field village cellar tent cabin stable mill market hall meadow
  orchard harbour valley cottage temple museum workshop
item: apples pears plums peaches cherries berries nuts carrots potatoes cakes
  biscuits sweets coins shells stones buttons feathers candles beans cards eggs
  cookies marbles flowers leaves stamps
""").items()
}
GRAMMAR = _entries("""
opening: [Once upon a time|Once|Long ago|One spring|One summer|One winter]
  there was a {trait} {role} [named|called] {hero}. {hero}'s {kin} {friend} was
  [very |rather |]{trait2}.
opening: {hero} was a {trait} {role}. {hero} had a {kin} [named|called]
  {friend}, who was [very |rather |]{trait2}.
opening: [In a small town|By the sea|Far away|In the hills] lived a {trait}
  {role} [named|called] {hero} and {his} {trait2} {kin} {friend}.
things: {hero} had a {colour} {thing}, and {friend} had a {colour2} {thing2}.
things: {hero} [owned|had bought] a {colour} {thing}. {friend} [owned|had
  made|had found] a {colour2} {thing2}.
things: {hero} [always carried|loved] a {colour} {thing}, but {friend} liked
  {his2} {colour2} {thing2}[ more| better|].
meeting: [One|That] [day|morning|afternoon|evening], {hero} and {friend}
  [met|were|sat|stood|played] in the {place}, while {other}
  [waited|worked|rested|slept|stayed] in the {place2}.
meeting: {hero} [came|went] to the {place} with the {thing} and [met|found|saw]
  {friend} there. {other} was [alone |]in the {place2}.
cause: It had rained all night/path/slippery
cause: A storm had come at dawn/bridge/broken
cause: The guard had lost something/gate/locked
cause: The snow had melted on the hills/river/deep
cause: Many carts had passed/road/muddy
cause: It had snowed for two days/street/icy
cause: A tree had fallen/track/blocked
cause: The sun had gone behind the clouds/tunnel/dark
cause: The wind had blown since noon/lake/rough
cause: One wheel had come off/wagon/stuck
cause: Nobody had fed the animals/horse/hungry
cause: The crew was still asleep/ferry/closed
cause: Somebody had cut the line/boat/adrift
cause: Nobody had wound it/clock/slow
cause: The town was having a feast/square/crowded
cause: Somebody had moved the signs/crossing/confusing
trouble: {origin}, so the {obstacle} was {state}.
trouble: {origin}. [That was why|Because of that] the {obstacle} was {state}.
effect: {hero} [was late|had to wait|came too late] because the <cause
  {obstacle}> was {state}.
effect: "Why did you [come so late|take so long|walk so slowly]?" asked
  {friend}. "It was the <cause {obstacle}>," said {hero}. "It was {state}."
effect: [That day|In the evening] {hero} [came|went|walked] home late. The
  [reason|trouble] was the <cause {obstacle}>, which was {state}.
flavour: "What a [lovely|fine|bright|cold|warm] [day|morning|place]!" said
  {friend}.
flavour: A [little |big |wild |]bird [sang|sat] [in a tree|on a branch|nearby].
flavour: {hero} [smiled|laughed|sang a song|told a joke|waved].
flavour: {friend} [was tired|was thirsty|felt well|felt a little sad|yawned].
flavour: "I am [so |very |]glad that you are here," said {hero}.
have: {hero} had {number} {items}.
have: There were {number} {items} in the bag that {hero} carried.
gain: {friend} [gave|handed] {hero} {number} more.
gain: Then {hero} [found|bought|picked up] {number} more.
loss: {hero} gave {number} to {friend}.
loss: {hero} [lost|dropped|sold] {number} of them.
count: [Now|Then] {hero} had <number {number}> {items}.
count: "How many {items} do you have[ now|]?" asked {friend}. "I have <number
  {number}>," said {hero}.
count: That left {hero} with <number {number}> {items}.
give: {who} [gave|handed|lent|passed] the {thing} to {to}.
give: "[Please take|You may have|Please hold] the {thing}," said {who} to {to}.
give: {to} [liked|needed|wanted] the {thing}, so {who} [gave|passed] it to
  {to}.
drop: {who} [put|set|laid] the {thing} down[ there| and took a rest|].
drop: {who} [dropped|forgot] the {thing} there.
take: {who} [picked up|took|found] the {thing}[ again|].
carry: [Then |Later |After that |]{who} [took|carried|brought] the {thing} to
  the {to}.
carry: [Then |Later |After that |]{who} [went|walked|ran] to the {to} with the
  {thing}.
go: [Then |Later |After that |]{who} [went|walked|ran|hurried] to the {to}.
go: {who} went to the {to} to [rest|eat|think|read|dance|look around].
tell thing: Now the {thing} was in the <place {answer}>.
tell thing: That is how the {thing} came to be in the <place {answer}>.
ask thing: "Where is the {thing}?" asked {asker}. "It is in the <place
  {answer}>," said {teller}.
tell person: {who} was [now|still] in the <place {answer}>.
tell person: Anyone who [wanted|needed] {who} had to look in the <place
  {answer}>.
ask person: "Where is {who}?" asked {asker}. "In the <place {answer}>," said
  {teller}.
ask person: {asker} [looked for|missed] {who}. "Go to the <place {answer}>,"
  said {teller}.
tell holder: Now the {thing} was with <person {answer}>.
tell holder: The one who had the {thing} was <person {answer}>.
ask holder: "Who has the {thing}?" asked {asker}. "I have it," said <person
  {answer}>.
ending: That night {hero} dreamed of the <colour {colour}> {thing}.
ending: {friend} never forgot the {colour} <thing {thing}>.
ending: In the end {friend} [kept|still liked] the <colour {colour2}> {thing2}.
ending: [At last|Soon] {hero} was at home again, and so was the owner of the
  {colour2} <thing {thing2}>.
ending: {hero} and {friend} [stayed|were] friends, and {hero} [kept|loved] the
  <colour {colour}> {thing} [for many years|ever after].
ending: {hero} and {friend} laughed about [it|that day] for years, and {friend}
  never sold the <colour {colour2}> {thing2}.
""")


# %% book/foundations/language_modeling.md#Narrator
class Narrator:
    """Tells one story, and keeps the state of its world.

    `at` maps people to places; `holder` has the hero's thing, and while
    nobody has it, it lies at `spot`.
    """

    def __init__(self, rng: random.Random) -> None:
        self.dice, self.quiz = Dice(rng), Dice(rng)
        self.text, self.probes = "", list[Probe]()
        pick, sample = self.dice.pick, self.dice.sample
        self.people = sample(WORDS["boy"] + WORDS["girl"], 3)
        self.places = sample(WORDS["place"], 3)
        first, second, _ = self.places
        self.at = dict(zip(self.people, (first, first, second)))
        self.holder: str | None = self.people[0]
        self.spot = first
        w = dict(zip(("hero", "friend", "other"), self.people))
        w |= {"place": first, "place2": second}
        for kind in ("trait", "colour", "thing"):
            w[kind], w[f"{kind}2"] = sample(WORDS[kind], 2)
        for person, his in (("hero", "his"), ("friend", "his2")):
            w[his] = "his" if w[person] in WORDS["boy"] else "her"
        w |= {"role": pick(WORDS["role"]), "kin": pick(WORDS["kin"])}
        self.words = w
        self.facts = (w["hero"], w["friend"], w["thing"], w["thing2"], first)

    def say(self, rule: str, **words: object) -> None:
        """Add a sentence of the grammar; a `<kind word>` in it is a probe."""
        pick = self.dice.pick
        line = pick(GRAMMAR[rule])
        line = _CHOICE.sub(lambda match: pick(match[1].split("|")), line)
        start, *rest = _MARK.split(" " + line.format_map(self.words | words))
        self.text += start
        for kind, answer, after in zip(rest[::3], rest[1::3], rest[2::3]):
            options = sorted([answer, *self.rivals(kind, answer)])
            candidates = tuple(f" {option}" for option in options)
            prompt = self.text[1:]
            self.probes.append(Probe(prompt, f" {answer}", candidates, kind))
            self.text += f" {answer}{after}"

    def rivals(self, kind: str, answer: str) -> list[str]:
        """The wrong candidates of a probe."""
        if kind == "number":
            near = range(max(1, int(answer) - 4), min(int(answer) + 5, 25))
            pool = [str(n) for n in near if len(str(n)) == len(answer)]
        elif kind == "cause":
            pool = [line.split("/")[1] for line in GRAMMAR["cause"]]
        else:
            told = set(re.findall(r"\w+", self.text))
            known = {"person": self.people, "place": self.places}
            pair = [self.words.get(kind, ""), self.words.get(f"{kind}2", "")]
            pool = [word for word in known.get(kind, pair) if word in told]
        pool = [word for word in pool if word != answer]
        outside = kind in ("number", "cause")
        return self.quiz.sample(pool, 3) if outside else pool

    def count(self) -> None:
        """Some items, one or two sums, and what is left; never below 2."""
        dice = self.dice
        items, number = dice.pick(WORDS["item"]), 2 + dice.below(11)
        self.say("have", number=number, items=items)
        for _ in range(2 if dice.chance(0.3) else 1):
            if number == 2 or dice.chance(0.5):
                change = 1 + dice.below(6)
                number += change
                self.say("gain", number=change)
            else:
                change = 1 + dice.below(number - 2)
                number -= change
                self.say("loss", number=change)
        self.say("count", number=number, items=items)

    def travel(self, steps: int) -> None:
        """People walk about; the hero's thing changes hands and places."""
        dice, at = self.dice, self.at
        who = giver = ""
        for _ in range(steps):
            who = dice.pick([p for p in self.people if p != who])
            company = [p for p in self.people if at[p] == at[who] and p != who]
            near = [p for p in company if p != giver]
            if self.holder == who and near and dice.chance(0.8):
                giver, self.holder = who, dice.pick(near)
                self.say("give", who=who, to=self.holder)
            elif self.holder == who and dice.chance(0.4):
                self.holder, self.spot = None, at[who]
                self.say("drop", who=who)
            elif self.holder is None and self.spot == at[who]:
                self.holder = who
                self.say("take", who=who)
            else:
                at[who] = dice.pick([p for p in self.places if p != at[who]])
                carries = self.holder == who
                self.say("carry" if carries else "go", who=who, to=at[who])

    def ask(self, what: str, place: str, **words: str) -> None:
        """Where is it? In a dialogue, if two others can talk elsewhere."""
        at = self.at
        away = [person for person in at if at[person] != place]
        pairs = [
            (p, q) for p in away for q in away if p != q and at[p] == at[q]
        ]
        asker, teller = self.dice.pick(pairs) if pairs else ("", "")
        rule = f"{'ask' if pairs else 'tell'} {what}"
        self.say(rule, answer=place, asker=asker, teller=teller, **words)

    def examine(self) -> None:
        """One or two questions about the state of the world."""
        dice, at, holder = self.dice, self.at, self.holder
        here = at[holder] if holder else self.spot
        if holder and dice.chance(0.4):
            near = [p for p in at if p != holder and at[p] == here]
            asker = dice.pick(near) if near else ""
            rule = "ask holder" if near else "tell holder"
            self.say(rule, answer=holder, asker=asker)
        elif dice.chance(0.6):
            self.ask("thing", here)
        who = dice.pick(self.people)
        self.ask("person", at[who], who=who)

    def tell(self) -> Story:
        """The whole story, with a trouble or a sum in it."""
        dice = self.dice
        for rule in ("opening", "things", "meeting"):
            self.say(rule)
        trouble = dice.chance(0.5)
        if trouble:
            cause = dice.pick(GRAMMAR["cause"]).split("/")
            self.words |= zip(("origin", "obstacle", "state"), cause)
            self.say("trouble")
        if not trouble or dice.chance(0.15):
            self.count()
        elif dice.chance(0.5):
            self.say("flavour")
        self.travel(1 + dice.below(3))
        self.examine()
        if trouble:
            self.say("effect")
        self.say("ending")
        return Story(self.text[1:], tuple(self.probes), self.facts, dice.bits)


# %% book/foundations/language_modeling.md#iterate_stories
def iterate_stories(
    *, seed: int = 0, split: str = "train"
) -> Iterator[Story]:
    """An endless stream of stories, the same for one seed and split."""
    if split not in ("train", "validation"):
        raise ValueError(f'split {split!r}: use "train" or "validation"')
    rng = random.Random(f"{split} {seed}")
    narrators = (Narrator(rng) for _ in repeat(None))
    return (n.tell() for n in narrators if split_of(n.facts) == split)


def generate_stories(
    count: int, *, seed: int = 0, split: str = "train"
) -> list[str]:
    """The texts of `count` stories; a story occurs in one split only."""
    stories = iterate_stories(seed=seed, split=split)
    return [story.text for story in islice(stories, count)]


def generate_probes(
    count: int, *, seed: int = 0, split: str = "validation"
) -> list[Probe]:
    """The first `count` probes in the stories of that seed and split."""
    stories = iterate_stories(seed=seed, split=split)
    return list(islice((p for s in stories for p in s.probes), count))


# %% book/foundations/language_modeling.md#Vocabulary
class Vocabulary:
    """The distinct pieces of a text, numbered in sorted order."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces = sorted(set(pieces))
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, pieces: Iterable[str]) -> Tensor:
        """Ids (T,) of the pieces; `ValueError` for one without a number."""
        try:
            return torch.tensor([self.ids[piece] for piece in pieces]).long()
        except KeyError as error:
            raise ValueError(
                f"{error.args[0]!r} is not in the vocabulary of {len(self)} "
                "pieces; build it from text that contains every piece"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the pieces with these numbers."""
        return "".join(self.pieces[i] for i in ids)


# %% book/foundations/language_modeling.md#BigramModel
class BigramModel:
    """The next token's probability, from counts of pairs of tokens.

    P(j | i) = (count(i, j) + smoothing) / (count(i) + smoothing * V), and
    1 / V where token i was never seen and nothing is added.
    """

    def __init__(self, vocab_size: int, *, smoothing: float = 1.0) -> None:
        if smoothing < 0:
            raise ValueError(f"smoothing {smoothing} < 0; use 0 or more")
        self.smoothing = smoothing
        self.counts = torch.zeros(vocab_size, vocab_size, dtype=torch.long)

    def fit(self, ids: Tensor) -> "BigramModel":
        """Add the pairs of neighbours in `ids` (T,) to the counts."""
        V = len(self.counts)
        pairs = torch.bincount(ids[:-1] * V + ids[1:], minlength=V * V)
        self.counts += pairs.view(V, V)
        return self

    def probabilities(self) -> Tensor:
        """The whole table (V, V): row i is the distribution after token i."""
        table = self.counts.double() + self.smoothing
        total = table.sum(dim=1, keepdim=True)
        return torch.where(total > 0, table / total, 1 / len(table))

    def __call__(self, ids: Tensor) -> Tensor:
        """Log-probabilities, which are valid logits: (B, T) -> (B, T, V)."""
        return self.probabilities().log().float()[ids]


# %% book/foundations/language_modeling.md#sample_tokens
@torch.no_grad()
def sample_tokens(
    model: Callable[[Tensor], Tensor],
    ids: Tensor,
    *,
    count: int,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue `ids` by drawing `count` tokens: (B, T) -> (B, T + count).

    `model` maps ids (B, T) to logits (B, T, V).
    """
    for _ in range(count):
        probs = model(ids)[:, -1].softmax(dim=-1)  # (B, V)
        drawn = torch.multinomial(probs, 1, generator=generator)
        ids = torch.cat([ids, drawn], dim=1)
    return ids


# %% book/foundations/language_modeling.md#cross_entropy
def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of -ln P(target) in nats per token, as a scalar tensor.

    logits (..., V) and targets (...), ids of the true next tokens.
    """
    log_probs = logits - logits.logsumexp(dim=-1, keepdim=True)
    return -log_probs.gather(-1, targets.unsqueeze(-1)).mean()


def perplexity(loss: float) -> float:
    """The number of equally likely choices that a loss in nats amounts to."""
    return math.exp(loss)


def bits_per_byte(loss: float, *, num_tokens: int, num_bytes: int) -> float:
    """Bits per UTF-8 byte, from a mean loss in nats per token.

    `num_tokens` are the predicted tokens that the mean was taken over, and
    `num_bytes` the bytes of the text that they spell. Unlike perplexity, it
    compares models with different vocabularies.
    """
    if num_tokens < 1 or num_bytes < 1:
        raise ValueError(f"{num_tokens} tokens, {num_bytes} bytes: need more")
    return loss * num_tokens / num_bytes / math.log(2)


# %% book/foundations/language_modeling.md#NeuralBigram
class NeuralBigram(nn.Module):
    """A bigram model whose table of logits is learned by gradient descent."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, vocab_size)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.table(ids)  # (B, T) -> (B, T, V)
        return logits


# %% book/foundations/language_modeling.md#chance
def chance(probes: Sequence[Probe]) -> float:
    """The accuracy of guessing one of the candidates at random."""
    return sum(1 / len(probe.candidates) for probe in probes) / len(probes)


def probe_accuracy(
    log_prob: Callable[[str, str], float], probes: Sequence[Probe]
) -> float:
    """Share of probes whose answer is the most probable candidate.

    `log_prob(prompt, continuation)` scores a candidate. Where n candidates
    tie for the best, an answer among them counts 1 / n.
    """
    score = 0.0
    for probe in probes:
        scores = {c: log_prob(probe.prompt, c) for c in probe.candidates}
        best = [c for c in scores if scores[c] == max(scores.values())]
        score += (probe.answer in best) / len(best)
    return score / len(probes)


# %% book/foundations/language_modeling.md#DownloadError
class DownloadError(OSError):
    """A file could not be fetched; the message says what to do about it."""


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_HEADERS = {"User-Agent": "extracted", "Accept-Encoding": "identity"}


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects within a host; one to another is an `HTTPError`."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).netloc != req.host:
            return None
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None:
            new.method = req.get_method()
        return new


def stated_sha256(url: str, *, timeout: float = 30.0) -> str | None:
    """The SHA-256 that the server itself states for a file, if it does.

    The Hugging Face Hub does, in the header X-Linked-Etag, for large files,
    which it keeps elsewhere and redirects to.
    """
    request = urllib.request.Request(url, headers=_HEADERS, method="HEAD")
    response: Any
    try:
        opener = urllib.request.build_opener(_SameHost)
        response = opener.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        response = error
    except (OSError, http.client.HTTPException):
        return None
    with response:
        etag = response.headers.get("X-Linked-Etag", "").strip('"')
    return etag if re.fullmatch("[0-9a-f]{64}", etag) else None


def _receive(url: str, part: Path, timeout: float) -> None:
    """Fetch `url` into `part`, or only what is missing behind its end."""
    start = part.stat().st_size if part.exists() else 0
    headers = dict(_HEADERS)
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies behind the end
            return
        raise
    mode = "ab" if response.status == 206 else "wb"
    with response, part.open(mode) as file:
        before = file.tell()
        shutil.copyfileobj(response, file, 1 << 20)
        received = file.tell() - before
    expected = int(response.headers.get("Content-Length", received))
    if received < expected:
        raise ConnectionError(f"received {received} of {expected} bytes")


def download(
    url: str, sha256: str | None, *, to: Path, timeout: float = 30.0
) -> Path:
    """Fetch `url` as the file `to`: complete and verified, or not at all.

    An interrupted transfer leaves `to`.part, and the next call asks the
    server for the rest (HTTP Range). Without a `sha256` nothing could tell
    whether the halves fit, so the transfer starts over and only its length is
    checked. `timeout` is in seconds without any data. Raises `DownloadError`.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    part = to.with_name(to.name + ".part")
    if sha256 is None:
        part.unlink(missing_ok=True)
    try:
        _receive(url, part, timeout)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(
            f"cannot fetch {url} ({error}). Call again to go on where it "
            f"stopped, or put the file by hand at {to}"
        ) from error
    if sha256 is not None and (found := _sha256(part)) != sha256:
        part.unlink()
        raise DownloadError(
            f"{url} sent a file with SHA-256 {found}, expected {sha256}; it "
            f"was deleted. Put the right file by hand at {to}"
        )
    os.replace(part, to)
    return to


@dataclass(frozen=True)
class RemoteFile:
    """A file of a data set or a model: where it is, what it must contain.

    `path` is its place below a data directory: first `$EXTRACTED_DATA`, which
    is never written to, then the cache, `$XDG_CACHE_HOME/extracted` or
    `~/.cache/extracted`. Where `sha256` is not known, the checksum that the
    server states, or that of the first download, is kept beside the file and
    holds from then on.
    """

    url: str
    path: str
    sha256: str | None = None

    def fetch(self, *, timeout: float = 30.0) -> Path:
        """The verified local file, downloaded if it is not there yet.

        Raises `ValueError` for a damaged file, else as `download`.
        """
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        cached = Path(home, "extracted", self.path)
        note = cached.with_name(cached.name + ".sha256")
        given = os.environ.get("EXTRACTED_DATA")
        if given and Path(given, self.path).is_file():
            return self._verified(Path(given, self.path), self.sha256)
        if cached.is_file():
            noted = note.read_text("ascii") if note.is_file() else None
            return self._verified(cached, self.sha256 or noted)
        sha256 = self.sha256 or stated_sha256(self.url, timeout=timeout)
        download(self.url, sha256, to=cached, timeout=timeout)
        if self.sha256 is None:
            note.write_text(sha256 or _sha256(cached), "ascii")
        return cached

    def _verified(self, path: Path, sha256: str | None) -> Path:
        if sha256 is not None and (found := _sha256(path)) != sha256:
            raise ValueError(
                f"{path} has SHA-256 {found}, expected {sha256}; delete it, "
                f"and the next call fetches {self.url}"
            )
        return path


TEXTS = {
    "tiny_shakespeare": RemoteFile(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/"
        "tinyshakespeare/input.txt",
        "tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "tiny_stories": RemoteFile(
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/"
        "TinyStories-valid.txt",
        "tinystories/TinyStories-valid.txt",
    ),
}


def load_text(name: str, *, timeout: float = 30.0) -> str:
    """The text "tiny_shakespeare" (1.1 MB) or "tiny_stories" (19 MB).

    Raises `ValueError` for another name, else as `RemoteFile.fetch`.
    """
    if name not in TEXTS:
        raise ValueError(f"no text {name!r}; choose one of {', '.join(TEXTS)}")
    return TEXTS[name].fetch(timeout=timeout).read_text(encoding="utf-8")
