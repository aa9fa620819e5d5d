"""The tokenizer against a brute-force recount, tiktoken, and Hugging Face."""

import base64
import json
import os
import pickle
import random
import time
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import regex
import tiktoken
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken.load import load_tiktoken_bpe
from tokenizers import models, pre_tokenizers, trainers

from extracted.foundations.language_modeling import END_OF_TEXT, generate_stories
from extracted.foundations.tokenizer import (
    BYTE_ORDER,
    GPT2_PATTERN,
    MAX_CACHED_LENGTH,
    ByteVocabulary,
    PairIndex,
    StreamDecoder,
    Tokenizer,
    apply_merges,
    byte_ids,
    from_gpt2_files,
    from_huggingface_record,
    from_tiktoken_ranks,
    huggingface_record,
    learn_merges,
    spell,
    split_special,
    split_words,
    to_tiktoken,
    train_story_tokenizer,
)

os.environ["TOKENIZERS_PARALLELISM"] = "false"
unhurried = settings(deadline=None, max_examples=150)

DATA = os.environ.get("EXTRACTED_DATA")
needs_data = pytest.mark.skipif(
    DATA is None,
    reason="EXTRACTED_DATA is unset: the folder of gpt2 and tinyshakespeare",
)

SAMPLE = (
    "It's low, lower, lowest; she'll've 12 cats, 345 dogs and 6789 birds.\n\n"
    "  Grüße aus Köln! नमस्ते दुनिया, שלום עולם, 今日は世界。\t😀👩‍👩‍👧‍👦 ٣٤٥ Ⅻ ½\r\n"
) * 3


def differing_characters() -> set[str]:
    """Characters that `regex` and tiktoken's engine class differently.

    Both follow Unicode, each the edition of its release: they can differ only in
    characters that one of the editions does not have.
    """
    everything = "".join(chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000)
    found: set[str] = set()
    for kind in (r"\p{L}", r"\p{N}", r"\s"):
        rust = tiktoken.Encoding(
            "kind",
            pat_str=kind,
            mergeable_ranks={bytes([b]): b for b in range(256)},
            special_tokens={},
        )
        theirs = rust.decode(rust.encode_ordinary(everything))
        found |= {*regex.findall(kind, everything)} ^ {*theirs}
    return found


DIFFERING = differing_characters()
ALPHABETS = [
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(" \t\n\r\v\f\x1c\x85\xa0\u1680\u2003\u2028\u3000\u200b'sSltdmver"),
    st.sampled_from("0123456789٠٣९०५Ⅻ½²߀ aZ'"),
    st.sampled_from("é e\u0301 ñn\u0303 한국\u1112\u1161\u11ab नि स्ते\u200d\u200c"),
    st.sampled_from("😀👩👨👧\u200d\ufe0f🏽🇩🇪🏴❤ a"),
    st.sampled_from("今日は世界中文。、שלום مرحبا \u202e\u200f"),
]
TEXT = st.one_of(
    *(st.text(alphabet, max_size=40) for alphabet in ALPHABETS),
    st.lists(st.one_of(ALPHABETS), max_size=40).map("".join),
).map(lambda text: "".join(c for c in text if c not in DIFFERING))
# Few letters and long words: overlapping pairs such as "aaa", and many equal counts.
WORDS = st.dictionaries(
    st.text("ab", min_size=1, max_size=12) | st.text("abcdé", min_size=1, max_size=8),
    st.integers(1, 5),
    max_size=12,
)


@pytest.fixture(scope="module")
def small() -> Tokenizer:
    return Tokenizer.train([SAMPLE], 380, special_tokens=[END_OF_TEXT, "<|pad|>"])


@pytest.fixture(scope="module")
def gpt2() -> Tokenizer:
    folder = Path(str(DATA), "gpt2")
    return from_gpt2_files(folder / "vocab.bpe", folder / "encoder.json")


def recount(word_counts: dict[str, int], num_merges: int) -> list[tuple[int, int]]:
    """The definition of training: count everything again before each merge."""
    words = [(byte_ids(word), count) for word, count in word_counts.items()]
    merges: list[tuple[int, int]] = []
    while len(merges) < num_merges:
        counts: Counter[tuple[int, int]] = Counter()
        for ids, count in words:
            for pair in pairwise(ids):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        words = [(join(ids, best, 255 + len(merges)), n) for ids, n in words]
    return merges


def join(ids: list[int], pair: tuple[int, int], new: int) -> list[int]:
    out: list[int] = []
    for token in ids:
        if out and (out[-1], token) == pair:
            out[-1] = new
        else:
            out.append(token)
    return out


def reencode(word: str, merges: list[tuple[int, int]]) -> list[int]:
    """The definition of encoding: every merge in the order learned."""
    ids = byte_ids(word)
    for new, pair in enumerate(merges, 256):
        ids = join(ids, pair, new)
    return ids


def hugging_face(texts: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator(texts, trainer)
    return peer


# Training


def test_merges_of_a_text_worked_out_by_hand() -> None:
    # aaab twice and ab three times. Pairs: aa 4, ab 5 -> ab first: (a a ab) twice.
    # Then aa 2 and a+ab 2: of these equals the pair of smaller ids, aa, comes first.
    a, b = byte_ids("ab")
    ab, aa = 256, 257
    assert learn_merges({"aaab": 2, "ab": 3}, 10) == [(a, b), (a, a), (aa, ab)]


def test_overlapping_pairs_merge_from_the_left() -> None:
    a = byte_ids("a")[0]
    index = PairIndex({"aaaaa": 1})
    assert index.counts == {(a, a): 4}
    assert index.merge((a, a), 256) == {(256, a), (256, 256)}
    assert {p: n for p, n in index.counts.items() if n} == {
        (256, 256): 1,
        (256, a): 1,
    }


@unhurried
@given(WORDS, st.integers(0, 30))
def test_training_equals_recounting(words: dict[str, int], num_merges: int) -> None:
    assert learn_merges(words, num_merges) == recount(words, num_merges)


@unhurried
@given(WORDS)
def test_index_counts_are_exact_after_every_merge(words: dict[str, int]) -> None:
    merges = learn_merges(words, 20)
    index = PairIndex(words)
    ids = [(byte_ids(word), count) for word, count in words.items()]
    for new, pair in enumerate(merges, 256):
        index.merge(pair, new)
        ids = [(join(word, pair, new), count) for word, count in ids]
        expected: Counter[tuple[int, int]] = Counter()
        for word, count in ids:
            for neighbours in pairwise(word):
                expected[neighbours] += count
        assert {p: n for p, n in index.counts.items() if n} == dict(expected)


@unhurried
@given(st.lists(TEXT, max_size=5))
def test_training_equals_hugging_face(texts: list[str]) -> None:
    ours = Tokenizer.train(texts, 300)
    theirs = json.loads(hugging_face(texts, 300).to_str())["model"]
    record = huggingface_record(ours)["model"]
    assert record["merges"] == theirs["merges"]
    assert record["vocab"] == theirs["vocab"]


@needs_data
def test_training_on_shakespeare_equals_hugging_face() -> None:
    text = Path(str(DATA), "tinyshakespeare", "input.txt").read_text("utf-8")
    ours = Tokenizer.train([text], 10_256)
    peer = hugging_face([text], 10_256)
    assert len(ours.merges) == 10_000
    assert huggingface_record(ours)["model"]["vocab"] == peer.get_vocab()
    assert ours.encode(text) == peer.encode(text).ids


def test_a_smaller_vocabulary_is_a_prefix_of_a_larger_one(small: Tokenizer) -> None:
    assert Tokenizer.train([SAMPLE], 300).merges == small.merges[:44]


def test_training_stops_when_every_word_is_one_token() -> None:
    tokenizer = Tokenizer.train(["ab ab"], 5000, special_tokens=["<e>"])
    assert tokenizer.tokens[256:] == [b"ab", b" ab"]
    assert tokenizer.special_tokens == {"<e>": 258}
    assert tokenizer.vocab_size == 259


@unhurried
@given(WORDS)
def test_tokens_are_distinct(words: dict[str, int]) -> None:
    tokens = ByteVocabulary(learn_merges(words, 50)).tokens
    assert len(set(tokens)) == len(tokens)


def test_special_tokens_in_training_text_teach_nothing() -> None:
    plain = Tokenizer.train(["low lower", "lowest"], 264, special_tokens=["<e>"])
    marked = Tokenizer.train(
        ["low lower<e>lowest<e>" + "<e>" * 50], 264, special_tokens=["<e>"]
    )
    assert marked.merges == plain.merges


def test_one_long_word_trains_in_reasonable_time() -> None:
    letters = random.Random(0).choices("abcdefghij", k=100_000)
    start = time.perf_counter()
    merges = learn_merges({"".join(letters): 1}, 2000)
    assert len(merges) == 2000
    assert time.perf_counter() - start < 20, "0.3 s is usual; quadratic takes minutes"


def test_training_refuses_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"pass \[text\]"):
        Tokenizer.train("a text", 300)
    with pytest.raises(ValueError, match="258"):
        Tokenizer.train(["a"], 257, special_tokens=["<a>", "<b>"])


# Words


@unhurried
@given(TEXT)
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(split_words(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("It's 42!", ["It", "'s", " 42", "!"]),
        ("a  b", ["a", " ", " b"]),
        ("a \n b ", ["a", " \n", " b", " "]),
        ("x=10²", ["x", "=", "10²"]),
        ("I'LL", ["I", "'", "LL"]),
    ],
)
def test_split_pattern_piece_by_piece(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_regex_and_tiktoken_agree_on_every_established_character() -> None:
    if unicodedata.unidata_version < "16.1":
        established = {c for c in DIFFERING if unicodedata.category(c) != "Cn"}
        assert not established
    assert not regex.findall(r"\s", "".join(DIFFERING))


@pytest.mark.parametrize("pattern", [r"\p{L}+", r"(a)|[\s\S]", r"(a)(b)?|[\s\S]"])
def test_a_pattern_that_leaves_text_out_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"leaves text out.*\(\?:"):
        split_words("ab, cd.", pattern)


# Encoding


@unhurried
@given(TEXT)
def test_round_trip(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text), errors="strict") == text


@unhurried
@given(WORDS, st.text("abcdé ", max_size=30))
def test_encoding_equals_merges_in_order(words: dict[str, int], text: str) -> None:
    merges = learn_merges(words, 40)
    ranks = {pair: new for new, pair in enumerate(merges, 256)}
    assert apply_merges(byte_ids(text), ranks) == reencode(text, merges)


@unhurried
@given(TEXT)
def test_ids_equal_tiktoken_with_our_vocabulary(small: Tokenizer, text: str) -> None:
    assert small.encode(text) == to_tiktoken(small).encode_ordinary(text)


@needs_data
@settings(deadline=None, max_examples=1000)
@given(TEXT)
def test_ids_equal_tiktoken_with_the_vocabulary_of_gpt2(
    gpt2: Tokenizer, text: str
) -> None:
    assert gpt2.encode(text) == GPT2_PEER.encode_ordinary(text)


if DATA is not None:
    CODES = json.loads(Path(DATA, "gpt2", "encoder.json").read_text("utf-8"))
    BYTE_OF = {spell(bytes([b])): b for b in range(256)}
    GPT2_PEER = tiktoken.Encoding(
        "gpt2",
        pat_str=GPT2_PATTERN,
        mergeable_ranks={
            bytes(BYTE_OF[c] for c in token): i
            for token, i in CODES.items()
            if token != END_OF_TEXT
        },
        special_tokens={END_OF_TEXT: CODES[END_OF_TEXT]},
    )


@needs_data
def test_gpt2_on_every_character_and_on_known_ids(gpt2: Tokenizer) -> None:
    everything = "".join(
        chr(c)
        for c in range(0x110000)
        if not 0xD800 <= c < 0xE000 and chr(c) not in DIFFERING
    )
    spaced = " ".join(everything[i : i + 3] for i in range(0, len(everything), 3))
    assert gpt2.encode(spaced) == GPT2_PEER.encode_ordinary(spaced)
    # Ids that OpenAI's tiktoken documents and that GPT-2's users know.
    assert gpt2.encode("hello world") == [31373, 995]
    assert gpt2.encode(" SolidGoldMagikarp") == [43453]
    assert gpt2.special_tokens == {END_OF_TEXT: 50256}


@pytest.mark.parametrize("unit", ["a", " ", "7", "的", "ab", "abcdefg", "é́"])
def test_long_words_equal_tiktoken_and_are_not_quadratic(
    small: Tokenizer, unit: str
) -> None:
    text = unit * (100_000 // len(unit))
    start = time.perf_counter()
    ids = small.encode(text)
    assert time.perf_counter() - start < 10, "0.3 s is usual; quadratic takes minutes"
    assert ids == to_tiktoken(small).encode_ordinary(text)


def test_cache_stays_small_and_changes_no_id(
    small: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("extracted.foundations.tokenizer.MAX_CACHED_WORDS", 8)
    fresh = Tokenizer(small.merges)
    text = SAMPLE + "x" * (MAX_CACHED_LENGTH + 1)
    assert fresh.encode(text) == fresh.encode(text) == small.encode(text)
    assert 0 < len(fresh._words) <= 8
    assert max(map(len, fresh._words)) <= MAX_CACHED_LENGTH


def test_batch_equals_one_by_one(small: Tokenizer) -> None:
    texts = [SAMPLE, "", END_OF_TEXT, "a"]
    batch = small.encode_batch(texts, allowed_special="all")
    assert batch == [small.encode(t, allowed_special="all") for t in texts]


def test_text_that_has_no_bytes_is_refused(small: Tokenizer) -> None:
    with pytest.raises(ValueError, match="surrogates not allowed"):
        small.encode("half an emoji: \ud83d")


def test_empty_text(small: Tokenizer) -> None:
    assert small.encode("") == []
    assert small.decode([]) == ""


# Special tokens


def test_special_tokens_come_from_text_only_when_allowed(small: Tokenizer) -> None:
    end = small.special_tokens[END_OF_TEXT]
    pad = small.special_tokens["<|pad|>"]
    text = f"a{END_OF_TEXT}b<|pad|>"
    assert not {end, pad} & set(small.encode(text))
    assert small.decode(small.encode(text)) == text
    some = small.encode(text, allowed_special=[END_OF_TEXT])
    assert some.count(end) == 1 and pad not in some
    every = small.encode(text, allowed_special="all")
    assert [i for i in every if i in (end, pad)] == [end, pad]
    assert small.decode(every) == text
    assert every == to_tiktoken(small).encode(text, allowed_special="all")


@unhurried
@given(st.lists(st.sampled_from([END_OF_TEXT, "<|pad|>", "<|", "a", " ", "|>"])))
def test_plain_text_never_becomes_a_special_token(
    small: Tokenizer, parts: list[str]
) -> None:
    text = "".join(parts)
    assert max(small.encode(text), default=0) < len(small.tokens)
    assert small.decode(small.encode(text, allowed_special="all")) == text


def test_the_longest_special_token_wins() -> None:
    assert split_special("x<e>y<e><e>", ["<e>", "<e><e>", "(.*)"]) == [
        *("x", "<e>", "y", "<e><e>", ""),
    ]


def test_special_tokens_that_do_not_exist_are_refused(small: Tokenizer) -> None:
    with pytest.raises(ValueError, match="nope"):
        small.encode("a", allowed_special=["<|nope|>"])


@pytest.mark.parametrize("special", [{"<a>": 255}, {"<a>": -1}, {"": 256}])
def test_special_tokens_need_a_name_and_a_free_id(special: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a name and a free id"):
        ByteVocabulary([], special_tokens=special)


def test_two_special_tokens_cannot_share_an_id() -> None:
    with pytest.raises(ValueError, match="a name and a free id"):
        ByteVocabulary([], special_tokens={"<a>": 300, "<b>": 300})
    assert ByteVocabulary([], special_tokens={"<a>": 300}).vocab_size == 301


# Decoding


def test_broken_utf8(small: Tokenizer) -> None:
    ids = byte_ids("é")
    assert small.decode(ids[:1]) == "\ufffd"
    assert small.decode_bytes(ids[:1]) == b"\xc3"
    with pytest.raises(UnicodeDecodeError):
        small.decode(ids[:1], errors="strict")


@pytest.mark.parametrize("ids", [[-1], [10**9], [0, 380]])
def test_unknown_ids_are_refused(small: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(ValueError, match=r"no token has id.*=380"):
        small.decode(ids)


def test_ids_may_be_tensors_but_not_fractions(small: Tokenizer) -> None:
    ids = small.encode(SAMPLE)
    assert small.decode(torch.tensor(ids)) == SAMPLE
    assert small.decode(np.array(ids, dtype=np.uint16)) == SAMPLE
    with pytest.raises(TypeError):
        small.decode([1.5])  # type: ignore[list-item]


@unhurried
@given(st.lists(st.integers(0, 379)))
def test_streaming_equals_decoding_at_once(small: Tokenizer, ids: list[int]) -> None:
    stream = StreamDecoder(small)
    parts = [stream.feed(token) for token in ids]
    assert "".join([*parts, stream.flush()]) == small.decode(ids)


@unhurried
@given(TEXT)
def test_streaming_never_yields_half_a_character(small: Tokenizer, text: str) -> None:
    stream, so_far = StreamDecoder(small), ""
    for token in byte_ids(text):  # a byte at a time: the hardest case
        so_far += stream.feed(token)
        assert text.startswith(so_far)
    assert so_far == text and stream.flush() == ""


def test_stream_flushes_a_character_cut_short(small: Tokenizer) -> None:
    stream = StreamDecoder(small)
    first, second = byte_ids("é")
    assert (stream.feed(first), stream.flush()) == ("", "\ufffd")
    assert (stream.feed(first), stream.feed(second)) == ("", "é")


# Files and exchange


def test_save_and_load_give_equal_bytes(small: Tokenizer, tmp_path: Path) -> None:
    first, second = tmp_path / "tokenizer.json", tmp_path / "again.json"
    small.save(first)
    again = Tokenizer.load(tmp_path)
    again.save(second)
    assert first.read_bytes() == second.read_bytes()
    assert b"\r" not in first.read_bytes()
    assert again.merges == small.merges
    assert again.special_tokens == small.special_tokens
    assert again.pattern == small.pattern
    assert again.encode(SAMPLE) == small.encode(SAMPLE)


@unhurried
@given(TEXT)
def test_hugging_face_reads_our_file(
    peer: tokenizers.Tokenizer, small: Tokenizer, text: str
) -> None:
    ids = small.encode(text, allowed_special="all")
    assert peer.encode(text).ids == ids
    assert peer.decode(ids, skip_special_tokens=False) == text


@pytest.fixture(scope="module")
def peer(
    small: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> tokenizers.Tokenizer:
    path = tmp_path_factory.mktemp("peer") / "tokenizer.json"
    small.save(path)
    return tokenizers.Tokenizer.from_file(str(path))


def test_transformers_reads_our_file(small: Tokenizer, tmp_path: Path) -> None:
    small.save(tmp_path / "tokenizer.json")
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json")
    )
    text = f"She'll go.{END_OF_TEXT}今日は <|pad|>"
    assert fast(text)["input_ids"] == small.encode(text, allowed_special="all")


def test_we_read_what_hugging_face_writes(peer: tokenizers.Tokenizer) -> None:
    trained = hugging_face([SAMPLE], 400)
    trained.add_special_tokens([END_OF_TEXT])
    for theirs in (trained, peer):
        ours = from_huggingface_record(json.loads(theirs.to_str()))
        assert ours.vocab_size == theirs.get_vocab_size()
        text = SAMPLE + END_OF_TEXT
        assert ours.encode(text, allowed_special="all") == theirs.encode(text).ids


def test_merges_may_be_spelled_in_the_older_way(small: Tokenizer) -> None:
    record = json.loads(json.dumps(huggingface_record(small)))
    record["model"]["merges"] = [" ".join(m) for m in record["model"]["merges"]]
    assert from_huggingface_record(record).merges == small.merges


def test_a_pattern_travels_with_the_tokenizer(tmp_path: Path) -> None:
    digits = GPT2_PATTERN.replace(r" ?\p{N}+", r"\p{N}{1,3}")
    tokenizer = Tokenizer.train([SAMPLE], 300, pattern=digits)
    tokenizer.save(tmp_path / "digits.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "digits.json"))
    for text in ("1234567 x", SAMPLE):
        assert theirs.encode(text).ids == tokenizer.encode(text)
        assert to_tiktoken(tokenizer).encode(text) == tokenizer.encode(text)
    assert Tokenizer.load(tmp_path / "digits.json").pattern == digits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalizer": {"type": "NFC"}}, "normalizer"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "not byte-level BPE"),
        ({"pre_tokenizer": None}, "not byte-level BPE"),
        ({"model": {"ignore_merges": True}}, "ignore_merges"),
        ({"model": {"byte_fallback": True}}, "byte_fallback"),
        ({"added_tokens": [{"id": 500, "content": "<m>", "lstrip": True}]}, "lstrip"),
        (
            {
                "pre_tokenizer": {
                    "type": "ByteLevel",
                    "use_regex": True,
                    "add_prefix_space": True,
                }
            },
            "add_prefix_space",
        ),
    ],
)
def test_files_that_mean_something_else_are_refused(
    small: Tokenizer, change: dict[str, object], message: str
) -> None:
    record = huggingface_record(small)
    for key, value in change.items():
        new = record["model"] | value if key == "model" else value  # type: ignore[operator]
        record[key] = new
    with pytest.raises(ValueError, match=message):
        from_huggingface_record(record)


def test_a_file_that_does_not_say_use_regex_means_gpt2s_pattern(
    small: Tokenizer,
) -> None:
    record = huggingface_record(small)
    record["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False}
    record["pre_tokenizer"]["trim_offsets"] = True
    oracle = tokenizers.Tokenizer.from_str(json.dumps(record))
    ours = from_huggingface_record(record)
    assert ours.pattern == GPT2_PATTERN
    assert ours.encode(SAMPLE) == oracle.encode(SAMPLE).ids


def test_another_numbering_is_refused(small: Tokenizer) -> None:
    record = huggingface_record(small)
    vocab = record["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    with pytest.raises(ValueError, match="in the order: bytes in GPT-2's order"):
        from_huggingface_record(record)


@pytest.mark.parametrize("merges", [[(0, 256)], [(-1, 3)], [(3, 4), (257, 1)]])
def test_merges_of_later_tokens_are_refused(merges: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="joins a later id"):
        ByteVocabulary(merges)


def test_ranks_of_tiktoken_give_the_merges_back(small: Tokenizer) -> None:
    ranks = {token: i for i, token in enumerate(small.tokens)}
    again = from_tiktoken_ranks(ranks, special_tokens=small.special_tokens)
    assert again.merges == small.merges
    assert again.special_tokens == small.special_tokens


def test_a_tiktoken_file_gives_the_merges_back(
    small: Tokenizer, tmp_path: Path
) -> None:
    file = tmp_path / "ours.tiktoken"
    lines = [
        base64.b64encode(token) + b" %d\n" % i for i, token in enumerate(small.tokens)
    ]
    file.write_bytes(b"".join(lines))
    ranks = load_tiktoken_bpe(str(file))
    assert from_tiktoken_ranks(ranks).merges == small.merges


@needs_data
def test_ranks_of_gpt2_give_its_merges_back(gpt2: Tokenizer) -> None:
    ranks = GPT2_PEER._mergeable_ranks
    assert from_tiktoken_ranks(ranks).merges == gpt2.merges


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ranks: {**ranks, b"zq!": len(ranks)},  # three tokens, not two
        lambda ranks: {t: r + (r > 300) for t, r in ranks.items()},  # a gap
        lambda ranks: {bytes([b]): b for b in range(256)},  # bytes in another order
    ],
)
def test_ranks_that_are_no_merges_are_refused(small: Tokenizer, spoil: object) -> None:
    ranks = {token: i for i, token in enumerate(small.tokens)}
    with pytest.raises(ValueError, match="in GPT-2's order"):
        from_tiktoken_ranks(spoil(ranks))  # type: ignore[operator]


def test_byte_order_and_spelling_are_those_of_hugging_face() -> None:
    assert sorted(BYTE_ORDER) == list(range(256))
    characters = {spell(bytes([byte])) for byte in range(256)}
    assert characters == set(pre_tokenizers.ByteLevel.alphabet())
    assert spell(" é\n".encode()) == "ĠÃ©Ċ"


def test_pickled_tokenizer_is_the_same(small: Tokenizer) -> None:
    small.encode(SAMPLE)
    again = pickle.loads(pickle.dumps(small))
    assert again.encode(SAMPLE + "new words") == small.encode(SAMPLE + "new words")


def test_the_story_tokenizer(tmp_path: Path) -> None:
    train_story_tokenizer(tmp_path)
    tokenizer = Tokenizer.load(tmp_path)
    assert tokenizer.vocab_size == 1024
    assert tokenizer.special_tokens == {END_OF_TEXT: 1023}
    stories = generate_stories(50, split="validation")
    ids = tokenizer.encode_batch(stories)
    assert tokenizer.decode(ids[0]) == stories[0]
    length = sum(len(story.encode()) for story in stories)
    assert length / sum(map(len, ids)) > 3.5, "bytes per token on held-out stories"
