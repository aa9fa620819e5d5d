"""Byte-pair encoding in Python beside Hugging Face's and OpenAI's in Rust.

Trains 10,000 merges on tiny Shakespeare and encodes it, checks that all libraries give
identical merges and ids, and measures what GPT-2's vocabulary does to numbers,
languages and spelling. Reads the folder that EXTRACTED_DATA names, or downloads.
"""

import json
import os
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import tiktoken
import tokenizers
from harness import compare, digits, main, progress, timed
from tokenizers import models, pre_tokenizers, trainers

from extracted.foundations.language_modeling import load_text
from extracted.foundations.tokenizer import (
    GPT2_PATTERN,
    PairIndex,
    Tokenizer,
    WordCache,
    apply_merges,
    byte_ids,
    from_gpt2_files,
    from_tiktoken_ranks,
    huggingface_record,
    learn_merges,
    split_words,
    to_tiktoken,
)

Pair = tuple[int, int]

# Article 1 of the Universal Declaration of Human Rights, in the United Nations'
# translations.
ARTICLE_1 = {
    "English": "All human beings are born free and equal in dignity and rights. They "
    "are endowed with reason and conscience and should act towards one another in a "
    "spirit of brotherhood.",
    "French": "Tous les êtres humains naissent libres et égaux en dignité et en "
    "droits. Ils sont doués de raison et de conscience et doivent agir les uns envers "
    "les autres dans un esprit de fraternité.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie "
    "sind mit Vernunft und Gewissen begabt und sollen einander im Geist der "
    "Brüderlichkeit begegnen.",
    "Vietnamese": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm "
    "và quyền. Mọi con người đều được tạo hoá ban cho lý trí và lương tâm và cần phải "
    "đối xử với nhau trong tình bằng hữu.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах. "
    "Они наделены разумом и совестью и должны поступать в отношении друг друга в духе "
    "братства.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα "
    "δικαιώματα. Είναι προικισμένοι με λογική και συνείδηση, και οφείλουν να "
    "συμπεριφέρονται μεταξύ τους με πνεύμα αδελφοσύνης.",
    "Arabic": "يولد جميع الناس أحرارًا متساوين في الكرامة والحقوق. وقد وهبوا عقلاً "
    "وضميرًا وعليهم أن يعامل بعضهم بعضًا بروح الإخاء.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और "
    "समानता प्राप्त है। उन्हें बुद्धि और अन्तरात्मा की देन प्राप्त है और परस्पर "
    "उन्हें भाईचारे के भाव से बर्ताव करना चाहिए।",
    "Chinese": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，"
    "并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とに"
    "ついて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって"
    "行動しなければならない。",
    "Korean": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다. "
    "인간은 천부적으로 이성과 양심을 부여받았으며 서로 형제애의 정신으로 행동하여야 "
    "한다.",
}


def naive_step(words: list[tuple[list[int], int]], merges: list[Pair]) -> None:
    """One merge as the chapter's first version makes it: count all, rewrite all."""
    counts: Counter[Pair] = Counter()
    for ids, count in words:
        for pair in pairwise(ids):
            counts[pair] += count
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    for w, (ids, count) in enumerate(words):
        words[w] = (replace_pair(ids, best, 256 + len(merges)), count)
    merges.append(best)


def replace_pair(ids: list[int], pair: Pair, new: int) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(ids):
        if i + 1 < len(ids) and (ids[i], ids[i + 1]) == pair:
            out.append(new)
            i += 2
        else:
            out.append(ids[i])
            i += 1
    return out


def naive_encode(word: str, ranks: dict[Pair, int]) -> list[int]:
    """The chapter's first encoder: look at all pairs again after each merge."""
    ids = byte_ids(word)
    while len(ids) > 1:
        best = min(pairwise(ids), key=lambda pair: ranks.get(pair, 1 << 62))
        if best not in ranks:
            break
        ids = replace_pair(ids, best, ranks[best])
    return ids


def train_with_max(word_counts: Mapping[str, int], num_merges: int) -> list[Pair]:
    """The chapter's third version: counts kept, their maximum searched each time."""
    pairs, merges = PairIndex(word_counts), list[Pair]()
    while len(merges) < num_merges:
        best = min(pairs.counts, key=lambda pair: (-pairs.counts[pair], pair))
        merges.append(best)
        pairs.merge(best, 255 + len(merges))
    return merges


def train_hugging_face(text: str, vocab_size: int) -> tokenizers.Tokenizer:
    peer = tokenizers.Tokenizer(models.BPE())
    peer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    peer.train_from_iterator([text], trainer)
    return peer


def parallel(on: bool, run: Callable[[], object]) -> Callable[[], object]:
    """`run` with Hugging Face's thread pool on or off."""

    def timed() -> object:
        os.environ["TOKENIZERS_PARALLELISM"] = "true" if on else "false"
        return run()

    return timed


def extrapolate(
    words: Iterable[tuple[str, int]], merges: list[Pair], quick: bool
) -> dict[str, Any]:
    """Processor time of naive merges at stages of the training, and their integral.

    The corpus is brought to each stage by the known merges, untimed; then a few
    naive merges are timed, and must equal the known ones.
    """
    words = list(words)
    stages = [s for s in (0, 100, 300, 1000, 3000, 6000) if s < len(merges)]
    steps = 3 if quick else 8
    stages.append(len(merges) - steps)
    per_merge: list[float] = []
    for stage in stages:
        known = WordCache({p: new for new, p in enumerate(merges[:stage], 256)})
        rows = [(known[word], count) for word, count in words]
        learned = merges[:stage]
        seconds = [timed(partial(naive_step, rows, learned))[1] for _ in range(steps)]
        assert learned == merges[: stage + steps], "recounting learns other merges"
        per_merge.append(statistics.median(seconds))
        progress(f"  after {stage} merges: {per_merge[-1]:.4f} s a merge")
    total = sum(
        (later - stage) * (now + then) / 2
        for (stage, now), (later, then) in pairwise(zip(stages, per_merge, strict=True))
    )
    return {
        "stages": stages,
        "cpu_s_per_merge": [digits(seconds) for seconds in per_merge],
        "merges_timed": steps * len(stages),
        "extrapolated_cpu_s": digits(total),
    }


def training(text: str, num_merges: int, quick: bool) -> dict[str, Any]:
    words = split_words(text)
    counts = Counter(words)
    merges = learn_merges(counts, num_merges)
    repeats = 2 if quick else 9
    vocab_size = 256 + num_merges
    peer = partial(train_hugging_face, text, vocab_size)
    progress("training: ours and Hugging Face")
    timings = compare(
        {
            "ours": lambda: partial(Tokenizer.train, [text], vocab_size),
            "tokenizers_one_thread": lambda: parallel(False, peer),
            "tokenizers_all_threads": lambda: parallel(True, peer),
        },
        repeats,
    )
    progress("training: counts kept, maximum searched")
    search = partial(train_with_max, counts, num_merges)
    timings |= compare({"search_maximum": lambda: search}, 1)
    assert train_with_max(counts, 300) == merges[:300]
    progress("training: recount different words")
    naive_words = extrapolate(counts.items(), merges, quick)
    progress("training: recount the whole text")
    naive_text = extrapolate(((word, 1) for word in words), merges, quick)
    theirs = json.loads(peer().to_str())["model"]
    ours = huggingface_record(Tokenizer(merges))["model"]
    assert ours["merges"] == theirs["merges"] and ours["vocab"] == theirs["vocab"]
    return {
        "text": "tiny Shakespeare",
        "bytes": len(text.encode()),
        "words": len(words),
        "unique_words": len(counts),
        "merges": num_merges,
        "merges_equal_to_tokenizers": True,
        "timings": timings,
        "recount_text": naive_text,
        "recount_words": naive_words,
    }


def fresh(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with an empty cache."""
    copy = Tokenizer(tokenizer.merges, pattern=tokenizer.pattern)
    copy.encode("")
    return copy


def encoding(text: str, tokenizer: Tokenizer, repeats: int) -> dict[str, Any]:
    """Seconds to encode `text`; the peers hold the same vocabulary."""
    openai = to_tiktoken(tokenizer)
    record = json.dumps(huggingface_record(tokenizer))
    hugging_face = tokenizers.Tokenizer.from_str(record)
    warm = fresh(tokenizer)
    ids = warm.encode(text)
    assert ids == openai.encode_ordinary(text) == hugging_face.encode(text).ids
    ranks = {pair: new for new, pair in enumerate(tokenizer.merges, 256)}

    def naively() -> list[int]:
        return [i for word in split_words(text) for i in naive_encode(word, ranks)]

    timings = compare(
        {
            "ours_cold": lambda: partial(fresh(tokenizer).encode, text),
            "ours_warm": lambda: partial(warm.encode, text),
            "tiktoken": lambda: partial(openai.encode_ordinary, text),
            "tokenizers": lambda: parallel(False, partial(hugging_face.encode, text)),
        },
        repeats,
    )
    timings |= compare({"naive_no_cache": lambda: naively}, 1)
    return {
        "vocab_size": tokenizer.vocab_size,
        "bytes": len(text.encode()),
        "tokens": len(ids),
        "ids_equal_to_tiktoken_and_tokenizers": True,
        "timings": timings,
    }


def long_words(text: str, tokenizer: Tokenizer, quick: bool) -> list[dict[str, Any]]:
    """Seconds to encode the first n letters of `text` as one word."""
    letters = "".join(filter(str.isalpha, text))
    openai = to_tiktoken(tokenizer)
    ranks = {pair: new for new, pair in enumerate(tokenizer.merges, 256)}
    rows = []
    for length in (100, 300, 1000, 3000, 10_000, 30_000, 100_000):
        word = letters[:length]
        ids = byte_ids(word)
        candidates: dict[str, Callable[[], Callable[[], object]]] = {
            "ours": lambda ids=ids: partial(apply_merges, ids, ranks),
            "tiktoken": lambda word=word: partial(openai.encode_ordinary, word),
        }
        if length <= (1000 if quick else 10_000):
            candidates["naive"] = lambda word=word: partial(naive_encode, word, ranks)
        assert apply_merges(ids, ranks) == openai.encode_ordinary(word)
        timings = compare(candidates, 1 if length > 3000 else 5)
        rows.append({"letters": length, "timings": timings})
        progress(f"  {length} letters")
    return rows


def vocabulary_sizes(text: str, num_merges: int) -> dict[str, Any]:
    """Bytes per token of held-out text as the vocabulary grows.

    Trained on the first nine tenths. A smaller vocabulary is the first part of the
    largest one's merges.
    """
    cut = len(text) * 9 // 10
    merges = Tokenizer.train([text[:cut]], 256 + num_merges).merges
    sizes = [256, 320, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 10_256]
    rows = []
    for size in [s for s in sizes if s <= 256 + len(merges)]:
        tokenizer = Tokenizer(merges[: size - 256])
        seen = Counter(tokenizer.encode(text[:cut]))
        held_out = text[cut:]
        rare = sum(seen[i] < 10 for i in range(256, size))
        rows.append(
            {
                "vocab_size": size,
                "train": ratio(text[:cut], seen.total()),
                "held_out": ratio(held_out, len(tokenizer.encode(held_out))),
                "merged_tokens_seen_below_10_times": rare,
            }
        )
    return {"text": "tiny Shakespeare", "rows": rows}


def ratio(text: str, num_tokens: int) -> float:
    return round(len(text.encode()) / num_tokens, 4)


def what_gpt2_breaks(gpt2: Tokenizer) -> dict[str, Any]:
    """How GPT-2's vocabulary cuts numbers, languages, case and one user's name."""
    numbers = {}
    for length in (1, 2, 3, 4):
        first, last = (0, 10) if length == 1 else (10 ** (length - 1), 10**length)
        cuts = Counter(
            "+".join(str(len(gpt2.tokens[i])) for i in gpt2.encode(str(number)))
            for number in range(first, last)
        )
        numbers[str(length)] = dict(cuts.most_common())
    languages = {}
    for language, article in ARTICLE_1.items():
        languages[language] = {
            "characters": len(article),
            "bytes": len(article.encode()),
            "tokens": len(gpt2.encode(article)),
        }
    forms: dict[bytes, list[bytes]] = {}
    for token in gpt2.tokens:
        forms.setdefault(token.strip(b" ").lower(), []).append(token)
    spellings = max(forms.values(), key=len)
    return {
        "numbers": numbers,
        "languages": languages,
        "tokens": len(gpt2.tokens),
        "tokens_up_to_case_and_space": len(forms),
        "most_spellings": [token.decode(errors="replace") for token in spellings],
        "examples": {
            text: [gpt2.decode([i]) for i in gpt2.encode(text)]
            for text in ("1234 1235 1236", "2023 2024 2025 2026", "strawberry")
        },
        "SolidGoldMagikarp": gpt2.encode(" SolidGoldMagikarp"),
    }


def load_gpt2() -> Tokenizer:
    """GPT-2's tokenizer from EXTRACTED_DATA, else from tiktoken's download."""
    folder = Path(os.environ.get("EXTRACTED_DATA", "."), "gpt2")
    if folder.is_dir():
        return from_gpt2_files(folder / "vocab.bpe", folder / "encoder.json")
    encoding = tiktoken.get_encoding("gpt2")
    return from_tiktoken_ranks(
        encoding._mergeable_ranks, special_tokens=encoding._special_tokens
    )


def run(quick: bool) -> dict[str, Any]:
    text = load_text("tiny_shakespeare")
    if quick:
        text = text[:200_000]
    num_merges = 1000 if quick else 10_000
    gpt2 = load_gpt2()
    own = Tokenizer.train([text], 256 + num_merges)
    repeats = 2 if quick else 15
    results: dict[str, Any] = {
        "peers": "tiktoken on one thread; tokenizers encodes on one thread",
        "pattern": GPT2_PATTERN,
        "training": training(text, num_merges, quick),
    }
    progress("encoding")
    results["encoding"] = {
        "gpt2": encoding(text, gpt2, repeats),
        "shakespeare": encoding(text, own, repeats),
    }
    progress("long words")
    results["long_words"] = long_words(text, own, quick)
    progress("vocabulary sizes")
    results["vocabulary_sizes"] = vocabulary_sizes(text, num_merges)
    results["gpt2"] = what_gpt2_breaks(gpt2)
    return results


if __name__ == "__main__":
    sys.exit(main("tokenizer", run, ("tiktoken", "tokenizers", "regex")))
