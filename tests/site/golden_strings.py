"""500 strings that a tokenizer may meet, the same ones each time, in ten kinds."""

import random
import unicodedata
from collections.abc import Callable, Iterator

from extracted.foundations.language_modeling import END_OF_TEXT, generate_stories

KINDS = 10
EACH = 50
SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2009\u2028\u2029\u202f\u205f\u3000"
NO_SPACES = "\x1c\x1f\u200b\u200d\u2060\ufeff\u180e"  # they look like spaces
ENDINGS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "’s", "'x", "''s"]
SCRIPTS = [
    (0x00C0, 0x024F),  # Latin
    (0x0370, 0x03FF),  # Greek
    (0x0400, 0x04FF),  # Cyrillic
    (0x0531, 0x058F),  # Armenian
    (0x0590, 0x05FF),  # Hebrew with its points
    (0x0600, 0x06FF),  # Arabic with its marks and digits
    (0x0900, 0x097F),  # Devanagari with its vowel signs
    (0x0B80, 0x0BFF),  # Tamil
    (0x0E00, 0x0E7F),  # Thai
    (0x10A0, 0x10FF),  # Georgian
    (0x1200, 0x137F),  # Ethiopic
    (0x3040, 0x30FF),  # kana
    (0x4E00, 0x9FFF),  # Chinese
    (0xAC00, 0xD7A3),  # Korean
    (0x10330, 0x1034A),  # Gothic
    (0x1D400, 0x1D7FF),  # mathematical letters and digits
]
MARKS = "\u0300\u0301\u0308\u0327\u0338\u20dd\u0483\u064b\u093f\u3099"
DIGITS = "0123456789٠١٢٣४५६៧៨９０⅓½Ⅷⅻ①⑳²³𝟗㉛"
EMOJI = ["😀", "👩", "👧", "🧑🏽", "❤️", "🏳️", "🇫🇷", "🇯🇵", "1️⃣", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "✈"]
CODE = [
    "def f(x):\n\treturn x**2  # square\r\n",
    "for (let i=0; i<10; i++) { a[i] += `${i}`; }",
    "https://example.org/a_b?c=d%20e&f=é#g",
    "SELECT * FROM t WHERE a >= 1.5e-3 AND b != 'c''d';",
    r"C:\Users\new\table.csv",
    '{"key": [1, -2.50, null], "text": "\\u00e9"}',
    "QWxhZGRpbjpvcGVuIHNlc2FtZQ==" * 3,
]


def golden_strings() -> list[tuple[str, bool]]:
    """Each string, and whether names of special tokens in it are special."""
    rng = random.Random(20261126)
    made: list[tuple[str, bool]] = []
    for kind in (
        _story,
        _spaces,
        _contractions,
        _numbers,
        _scripts,
        _emoji,
        _special,
        _bytes,
        _anything,
        _code,
    ):
        seen: set[str] = set()
        while len(seen) < EACH:
            text = kind(rng)
            if text not in seen:
                seen.add(text)
                made.append((text, kind is _special and rng.random() < 0.7))
    return made


def assigned(code: int) -> bool:
    """Whether this Python's Unicode knows the character; a browser's may be newer."""
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


STORIES = generate_stories(EACH, split="validation")
WORDS = " ".join(STORIES).split()


def _story(rng: random.Random) -> str:
    story = rng.choice(STORIES)
    start = rng.randrange(len(story))
    return story[start : start + rng.randrange(1, 200)]


def _run(rng: random.Random, letters: str, most: int) -> str:
    return "".join(rng.choices(letters, k=rng.randint(1, most)))


def _spaces(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.randint(1, 8)):
        pieces.append(_run(rng, rng.choice([" ", "\n", SPACES, SPACES + NO_SPACES]), 5))
        pieces.append(rng.choice(["", *WORDS[:40], "!", "7"]))
    return "".join(pieces)


def _contractions(rng: random.Random) -> str:
    words = (
        rng.choice(WORDS) + rng.choice(["", *ENDINGS, *ENDINGS])
        for _ in range(rng.randint(1, 9))
    )
    return rng.choice(["", " "]).join(words)


def _numbers(rng: random.Random) -> str:
    pieces = (_run(rng, DIGITS, 7) for _ in range(rng.randint(1, 8)))
    return rng.choice(["", " ", ",", ".", " - ", "x"]).join(pieces)


def _scripts(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.randint(1, 6)):
        first, last = rng.choice(SCRIPTS)
        known = [c for c in range(first, last + 1) if assigned(c)]
        word = "".join(chr(rng.choice(known)) for _ in range(rng.randint(1, 6)))
        mark = rng.choice(MARKS) if rng.random() < 0.4 else ""
        form = rng.choice(["NFC", "NFD", "NFKC"])
        pieces.append(unicodedata.normalize(form, word + mark))  # type: ignore[arg-type]
    return rng.choice(["", " ", "  ", "\u3000", ", "]).join(pieces)


def _emoji(rng: random.Random) -> str:
    glue = rng.choice(["", " ", "\u200d", "\u200d", "\ufe0f", "a"])
    return glue.join(rng.choices(EMOJI, k=rng.randint(1, 6)))


def _special(rng: random.Random) -> str:
    parts = [END_OF_TEXT, END_OF_TEXT[:-1], END_OF_TEXT.upper(), "<|", "|>", " "]
    return "".join(rng.choices([*parts, *WORDS[:20]], k=rng.randint(1, 8)))


def _bytes(rng: random.Random) -> str:
    data = rng.randbytes(rng.randint(1, 40))
    text = data.decode(rng.choice(["utf-8", "latin-1", "utf-16-le"]), "replace")
    return "".join(c for c in text if assigned(ord(c)))


def _anything(rng: random.Random) -> str:
    known: Iterator[int] = filter(assigned, iter(lambda: rng.randrange(0x110000), -1))
    return "".join(chr(next(known)) for _ in range(rng.randint(1, 15)))


def _code(rng: random.Random) -> str:
    text: str = rng.choice(CODE)
    change: Callable[[str], str] = rng.choice(
        [str, str.upper, str.title, lambda s: s[:: rng.choice([1, -1])]]
    )
    start = rng.randrange(len(text))
    return rng.choice(WORDS) + change(text)[start:]
