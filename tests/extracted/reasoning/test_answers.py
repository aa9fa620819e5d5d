"""The answers of real problems: found in a text, read, and compared."""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from dataclasses import replace

import pytest

from extracted.foundations.language_modeling import DownloadError
from extracted.reasoning import answers
from extracted.reasoning.answers import (
    Group,
    equivalent,
    extract_answer,
    load_gsm8k,
    load_math500,
    parse_answer,
    run_limited,
)

needs_data = pytest.mark.skipif(
    not os.environ.get("EXTRACTED_DATA"),
    reason="EXTRACTED_DATA names no folder with gsm8k and math500",
)

SAME = [
    ("1/2", "0.5"), (".5", r"\frac12"), ("1,000", "1000"), ("58,500", "58500"),
    (r"10,\!080", "10080"), (r"10\,080", "10080"), ("-3", "−3"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"\dfrac{3}{4}", r"\frac 34"), (r"\tfrac34", "3/4"),
    (r"\frac{270}7\text{ degrees}", "270/7"), (r"\frac9{19}", "9/19"),
    (r"\sqrt[3]{8}", "2"), (r"\sqrt2", "2^{1/2}"), ("sqrt(12)", r"2\sqrt{3}"),
    (r"\sqrt{3+2\sqrt{2}}", r"1+\sqrt{2}"), ("x^10", "x^{10}"), ("x^-1", "1/x"),
    (r"90^\circ", "90"), (r"90^{\circ}", "90°"), ("90 degrees", r"90^\circ"),
    (r"\sin 30^\circ", "0.5"), (r"\cos(\pi/3)", "1/2"), (r"2\pi", r"\pi \cdot 2"),
    ("e^2", "e*e"), ("i^2", "-1"), ("(1+i)^2", "2i"), (r"2 \times 3", "6"),
    (r"6 \div 4", "1.5"), ("5!", "120"),
    (r"3\frac{1}{2}", "3.5"), ("3 1/2", "7/2"), ("-3 1/2", "-3.5"),
    (r"137 \frac{1}{2}", "137.5"), (r"2\frac{x}{3}", "2x/3"),
    (r"2\frac{3}{2}", "3"), ("50%", "50"), (r"50\%", "0.5"), ("0.5", "50%"),
    ("50 percent", "1/2"), (r"\$18.90", "18.9"), ("$1,234", "1234"),
    (r"5 \text{ cm}", "5 km"), (r"864 \mbox{ inches}^2", "864"), ("18 dollars", "18"),
    ("60 miles per hour", "60"), ("12 km/hr", "12"), (r"x=5\text{ cm}", "5"),
    (r"\text{East}", "east"), (r"\text{(C)}", "C"), ("(c)", "C"),
    ("yes", r"\text{Yes}"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)"), ("(0.5, 2)", r"(\frac12,2)"),
    (r"\{1,2\}", r"\{2,1\}"), ("3, 1, 2", "1,2,3"), ("1,-2", "-2, 1"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1+\sqrt5, 1-\sqrt5\}"), ("{1,2}", r"\{2,1\}"),
    (r"1 \pm \sqrt{19}", r"1-\sqrt{19}, 1+\sqrt{19}"), (r"x = \pm 2", "2,-2"),
    ("2 or -2", r"\pm 2"), (r"(-\infty, 0]", r"\left(-\infty,0\right]"),
    (r"(0,9) \cup (9,36)", r"(9,36)\cup(0,9)"), (r"x \in [-2,7]", "[-2,7]"),
    (r"\left(\frac{3}{5},\frac{8}{3}\right]", "(0.6, 8/3]"),
    (r"\emptyset", r"\{\}"), ("x = 5", "5"), ("y = 2x+3", "2x + 3"),
    ("y = 2x+3", "2x - y = -3"), ("5x-7y+11z+4=0", "10x-14y+22z=-8"),
    ("x > 2", "2 < x"), (r"x \geq 2", r"x \ge 2"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
     r"\begin{bmatrix}-\frac13\\ \frac23\end{bmatrix}"),
    (r"\begin{pmatrix}1&0\\0&1\end{pmatrix}",
     r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \\ \end{pmatrix}"),
    ("4210_{5}", "4210_5"), (r"\log 100", "2"), (r"\log_2 8", "3"), (r"\ln e^3", "3"),
    ("|-3|", "3"), (r"\lvert x \rvert", "|x|"), (r"\cot x", r"\frac{\cos x}{\sin x}"),
    (r"\sin^2 x + \cos^2 x", "1"), ("(a+5)(b+2)", "ab+2a+5b+10"),
    ("x_1+1", "1+x_{1}"), (r"\frac{11+9a}{20}", "0.55+0.45a"),
    (r"$\frac{1}{2}$.", "0.5"), (r"\(7\)", "7"),
]  # fmt: skip

DIFFERENT = [
    ("1/3", "0.333"), ("3.14", r"\pi"), ("(1,2)", "(2,1)"), ("(1,2)", "1,2"),
    ("[3,4)", "(3,4]"), (r"\{1,2\}", r"\{1,2,3\}"), ("2516_7", "2516_8"),
    ("2516", "2516_8"), (r"\text{west}", r"\text{east}"), ("B", r"\text{(C)}"),
    ("x=5", "6"), ("2x+4", "y=2x+3"), ("y=2x+4", "y=2x+3"), ("x=5", "y=5"),
    ("3 1/2", "31/2"), ("3 2", "32"), ("50%", "5"), ("50%", "0.5%"), ("0.005", "50"),
    (r"1 \pm 2", r"1 \pm 3"), ("|x|", "x"), (r"\sqrt{x^2}", "x"), ("3R^2", "3r^2"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 1 \end{pmatrix}"),
    ("", "5"), ("", ""), ("1.2.3", "1.23"), ("1/0", "0"), (r"\infty", r"-\infty"),
    (r"\infty", "5"), ("x < 2", "x > 2"), ("5", r"\{5, 6\}"), ("the answer", "5"),
    ("0", "0.0000000001"), (r"\sqrt{2}", "1.41421356237309504880"),
    (r"\sqrt{2} - 1.41421356237309504880", "0"),
]  # fmt: skip


@pytest.mark.parametrize("given, gold", SAME)
def test_the_same_answer(given: str, gold: str) -> None:
    assert equivalent(given, gold)
    assert equivalent(gold, given)


@pytest.mark.parametrize("given, gold", DIFFERENT)
def test_another_answer(given: str, gold: str) -> None:
    assert not equivalent(given, gold)
    assert not equivalent(gold, given)


def test_percent_is_not_transitive() -> None:
    assert equivalent("50", "50%") and equivalent("50%", "0.5")
    assert not equivalent("50", "0.5")


def test_a_comma_separates_within_brackets_only() -> None:
    assert parse_answer("12,102") == 12102
    assert parse_answer("(12,102)") == Group("()", (12, 102))


HOSTILE = [
    "__import__('os').system('touch owned')", "lambda: 1", "(lambda x: x)(5)",
    "f'{1+1}'", "exec('5')", "5 if 1 else 6", "9**9**9", "9^9^9^9",
    "9^{9^{9^9}}", "((9^{99})^{99})^{99}", r"\sqrt{2}^{10^9}", "(10^6)!", "100!!!",
    "e^{e^{e^{e^{9}}}}", r"\sin(e^{e^{99}})", r"\sin(e^{x^{900}})",
    r"\log(2^{9^9})", "2^{1000000000}", r"\sqrt[10^9]{5}",
    "(" * 200 + "1" + ")" * 200, "9" * 399, "1/" * 190 + "0", r"\sqrt" * 80 + "2",
    "x^" * 150 + "x", "-" * 390 + "5x", "|" * 399, r"\boxed{" * 50, "1/0",
    r"0 \cdot \infty", r"\infty - \infty", "{" * 400, "[" * 399, r"\frac" * 80,
    r"\begin{pmatrix}" * 20, "x_" * 199, "x_{" * 130, "^^^", "\\", "\x00", "5\n\n\n6",
    "(x+y+z)^{999}(x-y)^{999}", "9" * 1_000_000, "(" * 1_000_000, r"\pm" * 130 + "5",
    "self.__class__.__mro__", "𝟓𝟔", "٥",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_refused_soon(
    text: str, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    equivalent("x+1", "1+x")  # SymPy is warm
    start = time.process_time()
    assert not equivalent(text, "5")
    assert not equivalent("x+5", text)
    assert time.process_time() - start < 1
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_equals_itself_only() -> None:
    assert equivalent("9^9^9^9", " 9^9^9^9. ")
    assert not equivalent("9^9^9^9", "9^{9^{9^9}}")


def test_a_long_proof_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    given = r"(x+y+z+a+b+c)^{90}-(2x+2y+2z+2a+2b+2c)^{90}/2^{90}+5"
    start = time.monotonic()
    equivalent(given, "5", seconds=0.5)
    assert time.monotonic() - start < 3


def test_seconds_are_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        equivalent("1", "1", seconds=0)


EXTRACTED = [
    (r"so \boxed{\frac{1}{2}} is it", r"\frac{1}{2}"),
    (r"\boxed{1} and \boxed{2}", "2"),
    (r"\boxed{\{1, 2\}}", r"\{1, 2\}"), (r"\boxed{7} and \boxed{8", "7"),
    (r"\boxed{\boxed{4}}", "4"), (r"\boxed{} 9", "9"),
    ("a\n#### 1,234\nend 7", "1,234"), ("#### 1\n#### 2", "2"),
    ("it costs $1,200.", "1,200"), ("that is -3.5.", "-3.5"), ("10-5", "5"),
    ("half, 1/2 of it", "1/2"), ("3 1/2 cups", "3 1/2"), ("up by 15%.", "15%"),
    (r"$\frac{3}{4}$", r"\frac{3}{4}"), ("nothing", None), ("", None),
]  # fmt: skip


@pytest.mark.parametrize("text, answer", EXTRACTED)
def test_extraction(text: str, answer: str | None) -> None:
    assert extract_answer(text) == answer


def test_the_order_decides() -> None:
    text = "\\boxed{1}\n#### 2\nand 3"
    assert extract_answer(text) == "1"
    assert extract_answer(text, ("####", "boxed")) == "2"
    assert extract_answer(text, ("last", "boxed")) == "3"
    assert extract_answer("and 3", ("boxed",)) is None
    with pytest.raises(ValueError, match="choose from"):
        extract_answer(text, ("box",))


@pytest.mark.parametrize(
    "text", [r"\boxed{" * 50_000, "9" * 300_000, "1," * 200_000, "#" * 300_000]
)
def test_extraction_is_linear(text: str) -> None:
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 2


@pytest.fixture(scope="module")
def golds() -> list[str]:
    both = load_math500() + load_gsm8k("test")
    assert len(both) == 500 + 1319
    return [problem.answer for problem in both]


def reversed_list(text: str) -> str:
    if re.search(r"[(\[]|\d,(\\! ?)?\d{3}|\\pm", text):
        return text
    inner = text.removeprefix("\\{").removesuffix("\\}")
    parts = ", ".join(reversed(inner.split(",")))
    return "\\{" + parts + "\\}" if inner != text else parts


def with_commas(text: str) -> str:
    return f"{int(text):,}" if re.fullmatch(r"\d+", text) else text


def decimal_as_fraction(text: str) -> str:
    def fraction(match: re.Match[str]) -> str:
        digits = match[2]
        return rf"\frac{{{(match[1] or '') + digits}}}{{1{'0' * len(digits)}}}"

    return re.sub(r"(\d*)\.(\d+)", fraction, text)


def spaced(text: str) -> str:
    return re.sub(r"(?<!\\)([-+=()])", r" \1 ", text)


def unit(text: str) -> str:
    return text + r"\text{ cm}" if re.fullmatch(r"-?[\d.]+", text) else text


REWRITINGS = {
    "dfrac": lambda text: text.replace("\\frac", "\\dfrac"),
    "spaces": spaced,
    "left right": lambda text: re.sub(
        r"[)\]]", r"\\right\g<0>", re.sub(r"(?<!\\)[(\[]", r"\\left\g<0>", text)
    ),
    "fraction": decimal_as_fraction,
    "order": reversed_list,
    "commas": with_commas,
    "unit": unit,
    "dollar": lambda text: f"\\${text}" if re.fullmatch(r"[\d.]+", text) else text,
    "in dollars": lambda text: f"${text}$",
    "named": lambda text: text if re.search("[=,]|in", text) else f"Q = {text}",
}


@needs_data
def test_every_gold_answer_can_be_read(golds: list[str]) -> None:
    for gold in golds:
        assert equivalent(gold, gold)
        assert answers._same(parse_answer(gold), parse_answer(gold))


@needs_data
@pytest.mark.parametrize("name", REWRITINGS)
def test_every_gold_answer_equals_its_rewriting(golds: list[str], name: str) -> None:
    rewritten = [(REWRITINGS[name](gold), gold) for gold in golds]
    changed = [pair for pair in rewritten if pair[0] != pair[1]]
    assert changed, "the rewriting touches nothing"
    assert [pair for pair in changed if not equivalent(*pair)] == []


@needs_data
def test_every_gold_answer_differs_from_a_perturbed_one(golds: list[str]) -> None:
    def another(match: re.Match[str]) -> str:
        return str((int(match[0]) + 1) % 10)

    wrong = [(re.sub(r"\d(?!.*\d)", another, gold), gold) for gold in golds]
    wrong = [pair for pair in wrong if pair[0] != pair[1]]
    assert len(wrong) > 1700
    # the last digit may be the power of a unit, which is dropped
    wrong = [pair for pair in wrong if "mbox" not in pair[1]]
    assert [pair for pair in wrong if equivalent(*pair)] == []


@needs_data
def test_gold_answers_are_found_in_their_solutions() -> None:
    for problem in load_math500():
        found = extract_answer(problem.solution, ("boxed",))
        assert found is not None and equivalent(found, problem.answer)


@needs_data
def test_gsm8k_has_both_halves() -> None:
    train = load_gsm8k("train")
    assert len(train) == 7473
    assert train[0].answer == "72"
    assert "####" not in train[0].solution


def test_no_other_split() -> None:
    with pytest.raises(ValueError, match="train or test"):
        load_gsm8k("validation")


@pytest.mark.parametrize(
    "path, load",
    [("gsm8k/test.jsonl", load_gsm8k), ("math500/test.json", load_math500)],
)
def test_a_damaged_file_is_refused(
    path: str, load, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / path
    file.parent.mkdir()
    file.write_text('{"question": "1 + 1?", "answer": "#### 3"}\n')
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"SHA-256.*delete it"):
        load()


def test_files_are_read_as_they_are_written(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": "1 + 999?", "answer": "It is <<1+999=1000>>1000.\n#### 1,000"}]
    row = {"problem": "p", "solution": "s", "answer": "a"}
    content = {
        "gsm8k/test.jsonl": "\n".join(map(json.dumps, rows)) + "\n",
        "math500/test.json": json.dumps([row]),
    }
    monkeypatch.setenv("EXTRACTED_DATA", str(tmp_path))
    for name, path in (("test", "gsm8k/test.jsonl"), ("math500", "math500/test.json")):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(content[path].encode())
        digest = hashlib.sha256(content[path].encode()).hexdigest()
        file = replace(answers._PROBLEMS[name], sha256=digest)
        monkeypatch.setitem(answers._PROBLEMS, name, file)
    assert load_gsm8k() == [
        answers.WordProblem("1 + 999?", "1,000", "It is <<1+999=1000>>1000.")
    ]
    assert load_math500() == [answers.WordProblem("p", "a", "s")]


def test_offline_says_what_to_do(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXTRACTED_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = replace(answers._PROBLEMS["test"], url="http://127.0.0.1:9/none")
    monkeypatch.setitem(answers._PROBLEMS, "test", file)
    with pytest.raises(DownloadError, match="put the file by hand"):
        load_gsm8k()


def endless() -> None:
    while True:
        pass


def spin(seconds: float, errors: list[str]) -> None:
    try:
        run_limited(endless, seconds)
    except TimeoutError as error:
        errors.append(str(error))


def busy(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_a_limit_ends_a_loop_in_the_main_thread() -> None:
    errors: list[str] = []
    spin(0.05, errors)
    assert errors == ["more than 0.05 seconds"]


def test_limits_end_loops_in_other_threads() -> None:
    errors: list[str] = []
    threads = [
        threading.Thread(target=spin, args=(0.05, errors), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == ["more than 0.05 seconds"] * 4


def test_a_limit_may_end_before_the_work_begins() -> None:
    # On a busy machine the timer once fired while it was still being started.
    for _ in range(300):
        errors: list[str] = []
        spin(1e-6, errors)
        assert len(errors) == 1


def test_a_limit_does_not_fire_after_its_end() -> None:
    assert run_limited(lambda: 5, 0.05) == 5
    busy(0.15)
    for _ in range(300):  # the race at the end, many times
        try:
            assert run_limited(lambda: busy(0.001), 0.001) == "done"
        except TimeoutError:
            continue
    sum(range(100_000))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_message_lost_in_a_destructor_is_sent_again() -> None:
    # Lost in a callback of the garbage collector, it let a proof fill the memory.
    class Trap:
        def __del__(self) -> None:
            endless()

    def work() -> None:
        Trap()  # dies at once, and Python ignores what rises in its destructor
        endless()

    with pytest.raises(TimeoutError):
        run_limited(work, 0.05)


def test_inner_limits_cannot_take_an_outer_ones_message() -> None:
    def work() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                run_limited(lambda: busy(0.002), 0.001)

    for _ in range(5):
        with pytest.raises(TimeoutError, match=r"0\.05"):
            run_limited(work, 0.05)
    assert run_limited(lambda: "unharmed", 30) == "unharmed"
    busy(0.2)  # nothing is left on its way


def test_an_outer_limit_passes_an_inner_one() -> None:
    with pytest.raises(TimeoutError, match=r"0\.05"):
        run_limited(lambda: run_limited(endless, 30), 0.05)


def test_another_error_passes_a_limit() -> None:
    with pytest.raises(KeyError):
        run_limited(lambda: {}["nothing"], 30)


def test_a_swallowing_library_does_not_stop_a_limit() -> None:
    def swallow() -> None:
        while True:
            with contextlib.suppress(Exception):
                endless()

    with pytest.raises(TimeoutError):
        run_limited(swallow, 0.05)
