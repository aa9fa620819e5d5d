# Generated from book/foundations/tokenizer.md; do not edit (9f5459b7322d)
"""Byte-pair encoding from scratch, trained and applied as fast as Python allows,
exchangeable with tiktoken and Hugging Face.
"""

# %% book/foundations/tokenizer.md#Pair
import codecs
import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import chain, pairwise
from operator import index
from pathlib import Path
from typing import Any

import regex
import tiktoken

from extracted.foundations.language_modeling import (
    END_OF_TEXT,
    generate_stories,
)

Pair = tuple[int, int]


# %% book/foundations/tokenizer.md#PRINTABLE
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
BYTE_ORDER = bytes([*PRINTABLE, *sorted({*range(256)} - {*PRINTABLE})])
BYTE_TO_ID = bytes(BYTE_ORDER.index(byte) for byte in range(256))
BYTE_CHARS = [*map(chr, PRINTABLE), *map(chr, range(256, 324))]


def byte_ids(text: str) -> list[int]:
    """The UTF-8 bytes of `text` as token ids 0-255, in GPT-2's order."""
    return list(text.encode("utf-8").translate(BYTE_TO_ID))


def spell(token: bytes) -> str:
    """`token` as GPT-2's files write it, a printable character a byte."""
    return "".join(BYTE_CHARS[i] for i in token.translate(BYTE_TO_ID))


# %% book/foundations/tokenizer.md#GPT2_PATTERN
GPT2_PATTERN = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+"
    r"| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
)


def split_words(text: str, pattern: str = GPT2_PATTERN) -> list[str]:
    """Cut `text` into the words that no token crosses; joined, they are it."""
    words: list[str] = regex.findall(pattern, text)
    if sum(map(len, words)) != len(text):
        advice = r"end it with |[\s\S] and write groups as (?:...)"
        raise ValueError(f"the pattern {pattern} leaves text out: {advice}")
    return words


# %% book/foundations/tokenizer.md#PairIndex
class PairIndex:
    """Every pair of neighbouring tokens in the words of a corpus.

    `counts[pair]` is how often it occurs in the corpus and `places[pair]`
    where in `ids`, which holds each word once, -1 between two. `left` and
    `right` link a place to its neighbours, so a merge costs its places.
    """

    def __init__(self, word_counts: Mapping[str, int]) -> None:
        self.ids, self.weight = [-1], [0]
        for word, count in word_counts.items():
            symbols = byte_ids(word)
            self.ids += [*symbols, -1]
            self.weight += [count] * (len(symbols) + 1)
        self.left = list(range(-1, len(self.ids) - 1))
        self.right = list(range(1, len(self.ids) + 1))
        self.counts: defaultdict[Pair, int] = defaultdict(int)
        self.places: defaultdict[Pair, list[int]] = defaultdict(list)
        for i, pair in enumerate(pairwise(self.ids)):
            if min(pair) >= 0:
                self.counts[pair] += self.weight[i]
                self.places[pair].append(i)

    def merge(self, pair: Pair, new: int) -> set[Pair]:
        """Write `new` for every `pair`; return the pairs that this made."""
        ids, left, right = self.ids, self.left, self.right
        counts, places = self.counts, self.places
        made: set[Pair] = set()
        a, b = pair
        for i in places.pop(pair):
            j = right[i]
            if ids[i] != a or ids[j] != b:
                continue  # an earlier merge took one of the two
            h, k, n = left[i], right[j], self.weight[i]
            x, y = ids[h], ids[k]
            ids[i], ids[j] = new, -1  # x a b y becomes x new y
            right[i], left[k] = k, i
            for gone, came, place in (
                ((x, a), (x, new), h),
                ((b, y), (new, y), i),
            ):
                if min(gone) >= 0:
                    counts[gone] -= n
                    counts[came] += n
                    places[came].append(place)
                    made.add(came)
        del counts[pair]
        return made


# %% book/foundations/tokenizer.md#learn_merges
def learn_merges(
    word_counts: Mapping[str, int], num_merges: int
) -> list[Pair]:
    """Merges of byte-pair encoding in the order made; merge i makes 256 + i.

    Each joins the most frequent pair and, among equals, the pair of smaller
    ids, as Hugging Face does. Fewer when every word has become one token.
    """
    pairs = PairIndex(word_counts)
    heap = [(-count, pair) for pair, count in pairs.counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    while heap and len(merges) < num_merges:
        claim, pair = heappop(heap)
        if (count := pairs.counts[pair]) != -claim:  # it fell since
            if count > 0:
                heappush(heap, (-count, pair))
            continue
        merges.append(pair)
        for made in pairs.merge(pair, 255 + len(merges)):
            if pairs.counts[made] > 0:
                heappush(heap, (-pairs.counts[made], made))
    return merges


# %% book/foundations/tokenizer.md#ByteVocabulary
class ByteVocabulary:
    """What ids mean: `tokens[id]` are the bytes of bytes and merges, and
    `special_tokens` has ids above those, which no merge makes."""

    def __init__(
        self,
        merges: Iterable[Pair],
        *,
        special_tokens: Mapping[str, int] | Sequence[str] = (),
        pattern: str = GPT2_PATTERN,
    ) -> None:
        self.merges, self.pattern = list(merges), pattern
        self.tokens = [bytes([byte]) for byte in BYTE_ORDER]
        for new, (a, b) in enumerate(self.merges, 256):
            if not (0 <= a < new and 0 <= b < new):
                raise ValueError(f"merge {new} joins a later id: {(a, b)}")
            self.tokens.append(self.tokens[a] + self.tokens[b])
        if not isinstance(special_tokens, Mapping):
            free = enumerate(special_tokens, len(self.tokens))
            special_tokens = {name: i for i, name in free}
        self.special_tokens = dict(special_tokens)
        self._bytes = dict(enumerate(self.tokens))
        for name, i in self.special_tokens.items():
            if not name or i < 0 or i in self._bytes:
                message = "a special token needs a name and a free id, not"
                raise ValueError(f"{message} {name!r} and {i}")
            self._bytes[i] = name.encode("utf-8")

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding needs: the largest id plus one."""
        return max(self._bytes) + 1

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes that `ids` stand for, special tokens as their names."""
        try:
            return b"".join([self._bytes[index(i)] for i in ids])
        except KeyError as error:
            advice = f"vocab_size={self.vocab_size}: is it the model's?"
            raise ValueError(f"no token has id {error}; {advice}") from None

    def decode(self, ids: Iterable[int], *, errors: str = "replace") -> str:
        """The text of `ids`. Broken UTF-8 becomes U+FFFD or, with
        `errors="strict"`, a `UnicodeDecodeError`."""
        return self.decode_bytes(ids).decode("utf-8", errors)


# %% book/foundations/tokenizer.md#StreamDecoder
class StreamDecoder:
    """Decodes token by token and never yields half a character.

    What `feed` and a last `flush` return, joined, is `decode` of all ids.
    """

    def __init__(self, vocabulary: ByteVocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """The characters that `token` completes, perhaps none."""
        return self._decoder.decode(self._vocabulary.decode_bytes([token]))

    def flush(self) -> str:
        """U+FFFD if the text ends inside a character, else nothing."""
        return self._decoder.decode(b"", final=True)


# %% book/foundations/tokenizer.md#apply_merges
def apply_merges(ids: list[int], ranks: Mapping[Pair, int]) -> list[int]:
    """Merge the pair learned earliest, leftmost first, until none is left.

    `ranks[pair]` is the id that the pair becomes. O(n log n) for n ids.
    """
    ids = [*ids, -1]  # a sentinel at both ends: it is ids[-1] too
    left = list(range(-1, len(ids) - 1))
    right = list(range(1, len(ids) + 1))
    pairs = enumerate(pairwise(ids))
    heap = [(ranks[pair], i) for i, pair in pairs if pair in ranks]
    heapify(heap)
    while heap:
        new, i = heappop(heap)
        j = right[i]
        if ranks.get((ids[i], ids[j])) != new:
            continue  # an earlier merge took one of the two
        h, k = left[i], right[j]
        ids[i], ids[j] = new, -1
        right[i], left[k] = k, i
        for start, pair in ((h, (ids[h], new)), (i, (new, ids[k]))):
            if pair in ranks:
                heappush(heap, (ranks[pair], start))
    return [token for token in ids if token >= 0]


# %% book/foundations/tokenizer.md#MAX_CACHED_WORDS
MAX_CACHED_WORDS, MAX_CACHED_LENGTH = 1 << 17, 64


class WordCache(dict[str, list[int]]):
    """The ids of each word, worked out when it is first looked up."""

    def __init__(self, ranks: Mapping[Pair, int]) -> None:
        self.ranks = ranks

    def __missing__(self, word: str) -> list[int]:
        ids = apply_merges(byte_ids(word), self.ranks)
        if len(self) >= MAX_CACHED_WORDS:
            self.clear()
        if len(word) <= MAX_CACHED_LENGTH:
            self[word] = ids
        return ids


# %% book/foundations/tokenizer.md#split_special
def split_special(text: str, names: Collection[str]) -> list[str]:
    """Cut `text` around special tokens: text, name, text..."""
    if not names:
        return [text]
    longest_first = sorted(names, key=len, reverse=True)
    return re.split(f"({'|'.join(map(re.escape, longest_first))})", text)


# %% book/foundations/tokenizer.md#Tokenizer
class Tokenizer(ByteVocabulary):
    """Byte-level byte-pair encoding: text to token ids and back."""

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        pattern: str = GPT2_PATTERN,
        special_tokens: Sequence[str] = (),
    ) -> "Tokenizer":
        """Learn merges from `texts` up to `vocab_size` tokens in all.

        Fewer when every word has become one token. A special token met in
        `texts` is a boundary and teaches no merge.
        """
        num_merges = vocab_size - 256 - len(special_tokens)
        if num_merges < 0 or str in (type(texts), type(special_tokens)):
            raise ValueError(
                f"{vocab_size=} must be {vocab_size - num_merges} or more, "
                "texts and special_tokens lists: pass [text] for one"
            )
        counts: Counter[str] = Counter()
        for text in texts:
            for part in split_special(text, special_tokens)[::2]:
                counts.update(split_words(part, pattern))
        merges = learn_merges(counts, num_merges)
        return cls(merges, special_tokens=special_tokens, pattern=pattern)

    @cached_property
    def _words(self) -> WordCache:
        return WordCache({p: i for i, p in enumerate(self.merges, 256)})

    def encode(
        self, text: str, *, allowed_special: Collection[str] = ()
    ) -> list[int]:
        """Token ids of `text`; a special token's name is plain text in it,
        unless `allowed_special` names it or is `"all"`."""
        if allowed_special == "all":
            allowed_special = self.special_tokens
        if unknown := {*allowed_special} - {*self.special_tokens}:
            known = list(self.special_tokens)
            raise ValueError(f"special tokens: {known}, not {sorted(unknown)}")
        ids: list[int] = []
        for i, part in enumerate(split_special(text, allowed_special)):
            if i % 2:
                ids.append(self.special_tokens[part])
            else:
                words = split_words(part, self.pattern)
                ids += chain.from_iterable(map(self._words.__getitem__, words))
        return ids

    def encode_batch(
        self, texts: Iterable[str], *, allowed_special: Collection[str] = ()
    ) -> list[list[int]]:
        """`encode` of each text."""
        return [self.encode(t, allowed_special=allowed_special) for t in texts]

    def save(self, path: str | Path) -> None:
        """Write Hugging Face's `tokenizer.json`, the same bytes each time."""
        text = json.dumps(huggingface_record(self), ensure_ascii=False)
        Path(path).write_text(text + "\n", encoding="utf-8", newline="\n")

    @staticmethod
    def load(path: str | Path) -> "Tokenizer":
        """Read a `tokenizer.json`, or the one in the folder `path`."""
        file = Path(path)
        file = file / "tokenizer.json" if file.is_dir() else file
        return from_huggingface_record(json.loads(file.read_text("utf-8")))


# %% book/foundations/tokenizer.md#to_tiktoken
def to_tiktoken(tokenizer: Tokenizer) -> tiktoken.Encoding:
    """A `tiktoken.Encoding` that gives the same ids."""
    return tiktoken.Encoding(
        "extracted",
        pat_str=tokenizer.pattern,
        mergeable_ranks={t: i for i, t in enumerate(tokenizer.tokens)},
        special_tokens=tokenizer.special_tokens,
    )


def from_tiktoken_ranks(
    ranks: Mapping[bytes, int], **options: Any
) -> Tokenizer:
    """The tokenizer of tiktoken's `mergeable_ranks`, which name no pairs:
    a token's pair is what the merges before it make of its bytes."""
    merges: dict[Pair, int] = {}
    for rank, token in enumerate(sorted(ranks, key=ranks.__getitem__)):
        ids = apply_merges([*token.translate(BYTE_TO_ID)], merges)
        if ranks[token] != rank or (ids != [rank] and len(ids) != 2):
            place = f"is not byte or merge {rank} in GPT-2's order"
            raise ValueError(f"{token!r}, rank {ranks[token]}, {place}")
        if rank >= 256:
            merges[ids[0], ids[1]] = rank
    return Tokenizer(merges, **options)


# %% book/foundations/tokenizer.md#from_spelled_merges
def from_spelled_merges(
    merges: Iterable[Sequence[str]], vocab: Mapping[str, int], **options: Any
) -> Tokenizer:
    """A tokenizer from merges of spelled tokens, which `vocab` numbers."""
    pairs = [(vocab.get(a, -1), vocab.get(b, -1)) for a, b in merges]
    tokenizer = Tokenizer(pairs, **options)
    for i, token in enumerate(map(spell, tokenizer.tokens)):
        if vocab.get(token) != i:
            order = "bytes in GPT-2's order, merges, special tokens"
            raise ValueError(f"{token!r} is not id {i} in the order: {order}")
    return tokenizer


def from_gpt2_files(
    vocab_bpe: str | Path, encoder_json: str | Path
) -> Tokenizer:
    """GPT-2's tokenizer from the two files that OpenAI published."""
    vocab = json.loads(Path(encoder_json).read_text("utf-8"))
    lines = Path(vocab_bpe).read_text("utf-8").split("\n")
    merges = [line.split(" ") for line in lines[1:] if line]
    special = {t: i for t, i in vocab.items() if i >= 256 + len(merges)}
    return from_spelled_merges(merges, vocab, special_tokens=special)


# %% book/foundations/tokenizer.md#BYTE_LEVEL
BYTE_LEVEL = {
    "type": "ByteLevel",
    **dict.fromkeys(["add_prefix_space", "trim_offsets", "use_regex"], False),
}
ADDED = {
    "special": True,
    **dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False),
}


def huggingface_record(tokenizer: Tokenizer) -> dict[str, Any]:
    """What Hugging Face's `tokenizer.json` holds for the same ids."""
    names = [spell(token) for token in tokenizer.tokens]
    special = sorted((i, t) for t, i in tokenizer.special_tokens.items())
    split: dict[str, Any] = {"type": "Split", "behavior": "Isolated"}
    split |= {"pattern": {"Regex": tokenizer.pattern}, "invert": False}
    steps = {"type": "Sequence", "pretokenizers": [split, BYTE_LEVEL]}
    return {
        "version": "1.0",
        "added_tokens": [{"id": i, "content": t} | ADDED for i, t in special],
        "pre_tokenizer": steps,
        "decoder": BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "vocab": {name: i for i, name in enumerate(names)},
            "merges": [[names[a], names[b]] for a, b in tokenizer.merges],
        },
    }


# %% book/foundations/tokenizer.md#REFUSED
REFUSED = "normalizer ignore_merges byte_fallback dropout lstrip rstrip"


def from_huggingface_record(record: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a `tokenizer.json` that holds byte-level BPE."""
    match record.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, **rest} if (
            rest.get("use_regex", True)  # older files do not say
        ):
            pattern = GPT2_PATTERN
        case {
            "pretokenizers": [
                {"behavior": "Isolated", "pattern": {"Regex": pattern}},
                {"use_regex": False, "add_prefix_space": False},
            ]
        }:
            pass
        case other:
            raise ValueError(f"not byte-level BPE: pre-tokenizer {other}")
    model, added = record["model"], record["added_tokens"]
    parts = [record, model, *added]
    if odd := [k for k in REFUSED.split() if any(p.get(k) for p in parts)]:
        raise ValueError(f"cannot follow a tokenizer.json that sets {odd}")
    pairs = (m.split() if isinstance(m, str) else m for m in model["merges"])
    special = {token["content"]: token["id"] for token in added}
    options = {"special_tokens": special, "pattern": pattern}
    return from_spelled_merges(pairs, model["vocab"], **options)


# %% book/foundations/tokenizer.md#train_story_tokenizer
def train_story_tokenizer(directory: Path) -> None:
    """Train the book's tokenizer on its stories; save it in `directory`."""
    stories = generate_stories(20_000)
    tokenizer = Tokenizer.train(stories, 1024, special_tokens=[END_OF_TEXT])
    tokenizer.save(Path(directory, "tokenizer.json"))
