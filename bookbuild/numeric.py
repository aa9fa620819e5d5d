"""Which floats of two texts are equal, and one text in the other's spelling."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from difflib import SequenceMatcher

# Integers, versions (2.13.0), dotted names (h.0.5) and hashes (7e1f) are not floats.
FLOAT = re.compile(
    r"""(?P<space>\ *)(?<![\w.])(?P<number>
        [+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![0-9_]|\.[0-9])
        |[+-]?[0-9]+[eE][+-]?[0-9]+(?!\w|\.[0-9])
    )""",
    re.VERBOSE,
)
SIGNIFICANT = 6
EXACT = Context(prec=60, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


@dataclass(frozen=True)
class Tolerance:
    """When a float of this run equals the one of the reference.

    The last digit that is printed may differ by one, counting the finer of the two
    spellings and never beyond the sixth significant digit, where single precision
    ends: 0.3623 equals 0.3624 and not 0.3625; 0.123456789 equals 0.123456781. A float
    printed without decimals (`1.`, as in arrays of whole numbers) has six digits.
    `rtol` and `atol` loosen this to `|fresh - reference| <= atol + rtol * |reference|`.
    """

    rtol: float = 0.0
    atol: float = 0.0

    def close(self, fresh: str, reference: str) -> bool:
        """Whether two spellings of floats are equal within the tolerance."""
        new, old = EXACT.create_decimal(fresh), EXACT.create_decimal(reference)
        apart = EXACT.abs(EXACT.subtract(new, old))
        if apart <= max(_unit(fresh, reference), _smallest(old)):
            return True
        loose = EXACT.multiply(Decimal(self.rtol), EXACT.abs(old))
        return apart <= EXACT.add(Decimal(self.atol), loose)


def _unit(fresh: str, reference: str) -> Decimal:
    """One unit of the last printed digit, 0 where no decimals are printed."""
    exponents: list[int] = []
    for text in (fresh, reference):
        exponent = EXACT.create_decimal(text).as_tuple().exponent
        assert isinstance(exponent, int)  # FLOAT matches no nan and no inf
        if not text.endswith("."):
            exponents.append(exponent)
    return (
        EXACT.scaleb(Decimal(1), Decimal(min(exponents))) if exponents else Decimal(0)
    )


def _smallest(number: Decimal) -> Decimal:
    """One unit of the last significant digit that is compared."""
    magnitude = number.adjusted() + 1 if number else 0
    return EXACT.scaleb(Decimal(1), Decimal(magnitude - SIGNIFICANT))


def rewrite(fresh: str, reference: str, tolerance: Tolerance = Tolerance()) -> str:
    """`fresh`, its floats in the reference's spelling where they are close to it.

    Lines are matched by their text between the floats, so that a line too many leaves
    the others comparable. Nothing changes but floats and the spaces that align them.
    """
    new, old = fresh.splitlines(keepends=True), reference.splitlines(keepends=True)
    for start, target, size in _blocks(old, new):
        for offset in range(size):
            line = new[target + offset]
            new[target + offset] = _spell(line, old[start + offset], tolerance.close)
    return "".join(new)


def _blocks(old: list[str], new: list[str]) -> Iterable[tuple[int, int, int]]:
    """Runs of lines with equal text between the floats: two starts and a length."""
    before, after = ([FLOAT.sub("\0", line) for line in lines] for lines in (old, new))
    if before == after:
        return [(0, 0, len(new))]
    return SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks()


def _spell(line: str, reference: str, close: Callable[[str, str], bool]) -> str:
    spellings: Iterator[re.Match[str]] = FLOAT.finditer(reference)

    def spell(found: re.Match[str]) -> str:
        wanted = next(spellings)
        aligned = found["space"] == wanted["space"] or len(found[0]) == len(wanted[0])
        return (
            wanted if aligned and close(found["number"], wanted["number"]) else found
        )[0]

    return FLOAT.sub(spell, line)
