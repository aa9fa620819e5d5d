"""Floats are compared at the precision printed, everything else exactly."""

import math
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bookbuild.numeric import FLOAT, Tolerance, rewrite

SAME = [
    ("0.3624", "0.3623", "the last digit printed may differ by one"),
    ("1.0000", "0.9999", "also where all digits change"),
    ("0.123456781", "0.123456789", "never beyond the sixth significant digit"),
    ("0.123456789", "0.12345678901234567", "however many are printed"),
    ("1.25e-03", "1.26e-03", "with an exponent"),
    ("1e-05", "9e-06", "with an exponent and no decimals"),
    ("-0.00", "0.00", "a signed zero"),
    ("1.0000001", "1.", "an array of whole numbers and noise"),
    ("0.0000001", "0.0", "noise around zero"),
    ("+0.50", "0.51", "an explicit sign"),
    ("12345678.9", "12345679.1", "a large number in single precision"),
    ("1e400000", "1.000000001e400000", "beyond the range of a float"),
]
OTHER = [
    ("0.3625", "0.3623", "two units of the last digit"),
    ("0.3723", "0.3623", "the third digit"),
    ("0.512", "0.5", "the finer of the two spellings counts"),
    ("2.", "1.", "an array of whole numbers"),
    ("-0.50", "0.50", "the sign"),
    ("1.25e-04", "1.25e-03", "the exponent"),
    ("1.1", "1.3", "one decimal"),
]


@pytest.mark.parametrize(("fresh", "reference", "why"), SAME)
def test_close(fresh: str, reference: str, why: str) -> None:
    assert Tolerance().close(fresh, reference), why
    assert rewrite(f"loss {fresh}\n", f"loss {reference}\n") == f"loss {reference}\n"


@pytest.mark.parametrize(("fresh", "reference", "why"), OTHER)
def test_not_close(fresh: str, reference: str, why: str) -> None:
    assert not Tolerance().close(fresh, reference), why
    assert rewrite(f"loss {fresh}\n", f"loss {reference}\n") == f"loss {fresh}\n"


def test_tolerances_loosen_and_never_tighten() -> None:
    assert Tolerance(rtol=0.1).close("0.5500", "0.5000")
    assert not Tolerance(rtol=0.1).close("0.5502", "0.5000")
    assert Tolerance(atol=0.2).close("0.2999", "0.1")
    assert not Tolerance(atol=0.2).close("0.4", "0.1")
    assert Tolerance(rtol=1e-12).close("0.3624", "0.3623")


@pytest.mark.parametrize(
    "text",
    ["torch 2.13.0", "h.0.5", "layer1.5", "7e1f", "step 12", "0x1.8", "1_000.5", "3"],
)
def test_what_is_not_a_float(text: str) -> None:
    assert not FLOAT.search(text)


def test_numbers_with_units_and_in_brackets_are_floats() -> None:
    text = "tensor([0.50, -1.]) 3.25s 57.3% 1.5GB (2e-3) x=.5, 0.1-0.2"
    numbers = [found["number"] for found in FLOAT.finditer(text)]
    wanted = ["0.50", "-1.", "3.25", "57.3", "1.5", "2e-3", ".5", "0.1", "0.2"]
    assert numbers == wanted


def test_integers_are_exact_and_kinds_do_not_mix() -> None:
    assert rewrite("100 steps", "101 steps") == "100 steps"
    assert rewrite("3.0", "3") == "3.0"
    assert rewrite("3", "3.0") == "3"
    assert rewrite("nan", "0.5") == "nan"
    assert rewrite("loss inf 0.51\n", "loss inf 0.52\n") == "loss inf 0.52\n"


def test_columns_that_stay_aligned_may_change_their_spaces() -> None:
    assert rewrite("a 10.000|\n", "a  9.999|\n") == "a  9.999|\n"
    assert rewrite("a  0.5\n", "a 0.5\n") == "a  0.5\n"


def test_lines_are_matched_by_their_text() -> None:
    reference = "a 0.10\nb 0.20\nc 0.30\n"
    assert rewrite("a 0.11\nc 0.31\n", reference) == "a 0.10\nc 0.30\n"
    fresh = "a 0.11\nnew 7\nb 0.21\nc 0.39\n"
    assert rewrite(fresh, reference) == "a 0.10\nnew 7\nb 0.20\nc 0.39\n"


words = st.text(st.characters(codec="utf-8"), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)
text = st.lists(words | finite.map(repr) | st.integers().map(str) | st.just("\n")).map(
    " ".join
)


@given(text)
def test_a_text_is_rewritten_to_itself(same: str) -> None:
    assert rewrite(same, same) == same


@given(text, text)
def test_only_close_floats_and_their_alignment_change(fresh: str, old: str) -> None:
    result = rewrite(fresh, old)
    assert FLOAT.sub("\0", result) == FLOAT.sub("\0", fresh)
    for before, after in zip(FLOAT.finditer(fresh), FLOAT.finditer(result)):
        if before[0] != after[0]:
            assert Tolerance().close(before["number"], after["number"])


@given(
    st.floats(1e-4, 1e6), st.sampled_from([1, -1]), st.integers(0, 6), st.floats(-3, 3)
)
def test_the_printed_precision_decides(
    size: float, sign: int, digits: int, units: float
) -> None:
    old = f"x {sign * size:.{digits}f} {digits}"
    new = f"x {sign * size + units * 10.0**-digits:.{digits}f} {digits}"
    reference, fresh = Decimal(old.split()[1]), Decimal(new.split()[1])
    unit = Decimal(10) ** -digits
    sixth = Decimal(10) ** (reference.adjusted() - 5 if reference else -6)
    close = digits and abs(fresh - reference) <= max(unit, sixth)
    assert rewrite(new, old) == (old if close else new)


@given(finite, st.integers(2, 8))
def test_a_change_in_the_third_digit_never_passes(value: float, digits: int) -> None:
    assume(value and 1e-300 < abs(value) < 1e300)
    old = f"{value:.{digits}e}"
    magnitude = math.floor(math.log10(abs(float(old))))
    new = f"{float(old) + 2.5 * 10.0 ** (magnitude - 2):.{digits}e}"
    assume(old != new)
    assert rewrite(new, old) == new


@given(st.floats(0.1, 10), st.floats(0, 1), st.floats(0, 1), st.floats(-3, 3))
def test_the_tolerance_is_that_of_numpy(
    value: float, rtol: float, atol: float, change: float
) -> None:
    old, new = repr(value), repr(value + change)
    allowed = atol + rtol * value
    apart = abs(float(new) - float(old))
    assume(abs(apart - allowed) > 1e-3 and apart > 1e-2)
    assume("e" not in new and len(new) > 4 and len(old) > 4)
    assert Tolerance(rtol, atol).close(new, old) == (apart <= allowed)
