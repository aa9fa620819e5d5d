"""Live figures in a real browser: the mechanism on the sample, then the book's own.

The data of the book's widgets are those of the accepted references, so that nothing has
to run first; `bookbuild validate` holds the references against each execution.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regex
import torch
from golden_strings import assigned, golden_strings

from bookbuild.book import load
from bookbuild.document import notebook
from bookbuild.render import html
from extracted.foundations.tokenizer import Tokenizer, split_words

ROOT = Path(__file__).parents[2]
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
RECORD = "application/papermill.record/text/plain"
CHAPTER = """\
# Live figures

```{{code-cell}} python
glue("{data}", None)
```

```{{code-cell}} python
---
mystnb:
  figure: {{name: fig-{name}, caption: The figure.}}
  image: {{alt: A line.}}
---
draw()
```

```{{widget}} {name}
:data: {data}
:figure: fig-{name}
```

See {{numref}}`fig-{name}`.
"""
BOOK = {
    "tokenizer": ("foundations/tokenizer", "tokenizer-playground"),
    "attention": ("foundations/attention", "attention-explorer"),
}


def glued(chapter: str, name: str) -> str:
    """The text of a glued value as `tests/golden` keeps it."""
    path = ROOT / "tests" / "golden" / f"{chapter}.ipynb"
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", ()):
            scrap = output.get("metadata", {}).get("scrapbook", {})
            if scrap.get("name") == name:
                return "".join(output["data"][RECORD])
    raise LookupError(f"{chapter} glues no {name}")


@pytest.fixture(scope="session")
def values() -> dict[str, Any]:
    return {name: ast.literal_eval(glued(*place)) for name, place in BOOK.items()}


@pytest.fixture(scope="session")
def tokenizer(values: dict[str, Any]) -> Tokenizer:
    data = values["tokenizer"]
    return Tokenizer(
        data["merges"], special_tokens=data["special"], pattern=data["pattern"]
    )


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a page for each of the book's widgets, in the book's own style."""
    root = tmp_path_factory.mktemp("live")
    for path in sorted((ROOT / "book" / "_static").rglob("*")):
        if path.is_file():
            copy = root / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    (root / "book" / "index.md").write_text("# Index\n")
    chapters = "".join(f"  - file: {name}\n" for name in BOOK)
    (root / "_toc.yml").write_text(
        f"format: jb-book\nroot: index\nchapters:\n{chapters}"
    )
    for name, (_, data) in BOOK.items():
        text = CHAPTER.format(name=name, data=data)
        (root / "book" / f"{name}.md").write_text(text)
    book = load(root)
    picture = (Path(__file__).parent / "sample" / "loss.svg").read_text("utf-8")
    for name, place in BOOK.items():
        scrap = {"name": place[1], "mime_prefix": RECORD.removesuffix("text/plain")}
        outputs = [
            ({RECORD: glued(*place)}, {"scrapbook": scrap}),
            ({"image/svg+xml": picture}, {}),
        ]
        results = [
            {
                "execution_count": 1,
                "outputs": [
                    {"output_type": "display_data", "data": data, "metadata": more}
                ],
            }
            for data, more in outputs
        ]
        done = book.build / "executed" / f"{name}.ipynb"
        done.parent.mkdir(parents=True, exist_ok=True)
        done.write_text(notebook(book.chapter(name), results), encoding="utf-8")
    return html(book).parent


@pytest.fixture
def go(browser: Any, sample: Path, live: Path) -> Iterator[Any]:
    """Open a page of the sample or of the book's widgets; it must not complain."""
    contexts, complaints = [], list[str]()

    def open_page(name: str, *, width: int = 1280, **options: Any) -> Any:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, **options)
        )
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda m: complaints.append(m.text) if m.type == "error" else None,
        )
        folder = live if name in BOOK else sample
        page.goto((folder / f"{name}.html").as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


# The mechanism.


def test_a_widget_stands_in_the_place_of_the_picture(go: Any) -> None:
    page = go("part/counting")
    figure = page.locator("#fig-loss")
    assert not figure.locator("img").is_visible()
    assert figure.locator("figcaption").is_visible()
    figure.get_by_role("button", name="Step").click()
    assert figure.get_by_role("status").inner_text() == "b </script> a"


@pytest.mark.parametrize("name", ["part/counting", *BOOK])
def test_without_javascript_the_picture_stands(go: Any, name: str) -> None:
    figure = go(name, java_script_enabled=False).locator("figure").first
    assert figure.locator("img").is_visible()
    assert not figure.locator(".widget").is_visible()


@pytest.mark.parametrize("name", ["part/counting", *BOOK])
def test_on_paper_the_picture_stands(go: Any, name: str) -> None:
    page = go(name)
    figure = page.locator("figure").first
    assert figure.locator(".widget").is_visible()
    page.emulate_media(media="print")
    assert figure.locator("img").is_visible()
    assert not figure.locator(".widget").is_visible()


def test_when_a_script_fails_the_picture_stands(browser: Any, sample: Path) -> None:
    script = (sample / "_static" / "widgets" / "stepper.js").read_text("utf-8")
    broken = script.replace("host.append(", "host.append('half'); host.fail(")
    assert broken != script
    context = browser.new_context()
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.route("**/stepper.js", lambda route: route.fulfill(body=broken))
    page.goto((sample / "part" / "counting.html").as_uri())
    figure = page.locator("#fig-loss")
    assert figure.locator("img").is_visible()
    assert not figure.get_by_text("half").is_visible()
    assert "host.fail is not a function" in complaints[0]
    context.close()


def test_the_preview_of_a_live_figure_is_its_picture(go: Any) -> None:
    page = go("part/counting")
    page.locator("article p a", has_text="Figure 1.1").first.hover()
    preview = page.locator("#preview")
    preview.locator("img").wait_for(state="visible")
    assert preview.locator(".widget").count() == 0


@pytest.mark.parametrize("name", BOOK)
@pytest.mark.parametrize("width", [320, 390, 820, 1280])
def test_a_widget_does_not_scroll_sideways(go: Any, name: str, width: int) -> None:
    page = go(name, width=width)
    if name == "tokenizer":
        page.locator("textarea").fill("<|endoftext|>" * 9 + "W" * 200 + " 𝟗" * 30)
        page.get_by_role("checkbox").check()
    assert page.evaluate("document.documentElement.scrollWidth") == width
    inside = page.locator(".widget").evaluate("w => [w.scrollWidth, w.clientWidth]")
    assert inside[0] == inside[1]


def violations(page: Any) -> list[str]:
    page.add_script_tag(path=str(AXE))
    told = []
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        found = page.evaluate(
            "axe.run(document, {resultTypes: ['violations'], preload: false})"
        )
        told += [
            f"{colours} {rule['id']}: {node['html'][:160]}\n{node['failureSummary']}"
            for rule in found["violations"]
            for node in rule["nodes"]
        ]
    return told


# The tokenizer playground.

ENCODE = """pairs => {
  const data = document.querySelector('.widget script').textContent;
  const model = bookWidgets.known.tokenizer.model(JSON.parse(data));
  return pairs.map(([text, allowed]) => model.encode(text, allowed)); }"""


def test_500_golden_strings_have_the_ids_of_the_package(
    go: Any, tokenizer: Tokenizer
) -> None:
    strings = golden_strings()
    found = go("tokenizer").evaluate(ENCODE, strings)
    wrong = [
        text
        for (text, allowed), ids in zip(strings, found, strict=True)
        if ids != tokenizer.encode(text, allowed_special="all" if allowed else ())
    ]
    assert len(set(strings)) == 500
    assert wrong == []
    assert any(tokenizer.special_tokens["<|endoftext|>"] in ids for ids in found)
    merged = sum(any(i >= 256 for i in ids) for ids in found)
    assert merged > 250, "too few of the strings meet a merge"


def test_merges_of_every_script_and_kind(go: Any) -> None:
    """The stories teach English merges only; these are learned from all the strings."""
    strings = golden_strings()
    texts = [text for text, _ in strings]
    marks = ["<|a|>", "<|a|>b", "(.*)"]
    trained = Tokenizer.train(texts, 3000, special_tokens=marks)
    data = {
        "bytes": [token[0] for token in trained.tokens[:256]],
        "merges": trained.merges,
        "pattern": trained.pattern,
        "special": trained.special_tokens,
        "examples": {},
    }
    texts += ["x<|a|>b<|a|>(.*)y", "", " ", "(.*"]
    found = go("tokenizer").evaluate(
        """([data, texts]) => { const model = bookWidgets.known.tokenizer.model(data);
        return texts.map(text => model.encode(text, true)); }""",
        [data, texts],
    )
    assert found == [trained.encode(text, allowed_special="all") for text in texts]
    assert len({i for ids in found for i in ids}) > 1500


def test_every_character_is_a_letter_a_number_or_a_space_for_both(go: Any) -> None:
    """The classes of the pattern, on each character that this Python knows."""
    kinds = [r"\p{L}", r"\p{N}", r"\s"]
    known = [c for c in range(sys.maxunicode + 1) if assigned(c)]
    found = go("tokenizer").evaluate(
        """() => { const kinds = [/\\p{L}/u, /\\p{N}/u, /\\p{White_Space}/u];
        return Array.from({length: 0x110000}, (_, code) => code).map(code =>
          kinds.findIndex(kind => kind.test(String.fromCodePoint(code)))); }"""
    )
    patterns = [regex.compile(kind) for kind in kinds]
    differ = []
    for code in known:
        ours = next((i for i, p in enumerate(patterns) if p.match(chr(code))), -1)
        if ours != found[code]:
            differ.append(hex(code))
    assert len(known) > 250_000
    assert differ == []


def test_half_a_surrogate_pair_is_replaced(go: Any) -> None:
    page = go("tokenizer")
    pairs = "[['a\\ud800b', false], ['\\udfff', false], ['\\udc00\\ud83d', false]]"
    found = page.evaluate(f"({ENCODE})({pairs})")
    clean = [["a\ufffdb", False], ["\ufffd", False], ["\ufffd\ufffd", False]]
    assert found == page.evaluate(ENCODE, clean)


def test_each_step_is_a_smaller_vocabulary(go: Any, tokenizer: Tokenizer) -> None:
    """As the chapter says: the first merges are the tokenizer with fewer tokens."""
    text = "The old gardener's kite, thoughtful\n\n  and 2023 — café"
    states = go("tokenizer").evaluate(
        """text => { const data = document.querySelector('.widget script').textContent;
        const model = bookWidgets.known.tokenizer.model(JSON.parse(data));
        return model.steps(text, false); }""",
        text,
    )
    made = [state["id"] for state in states]
    assert made[0] is None and made[1:] == sorted(set(made[1:]))
    assert len(states) > 15
    words = split_words(text)
    for state in states:
        count = 0 if state["id"] is None else state["id"] - 255
        smaller = Tokenizer(tokenizer.merges[:count])
        assert state["words"] == [smaller.encode(word) for word in words]


def shown(page: Any) -> list[int]:
    ids = page.locator(".token").evaluate_all("all => all.map(t => t.dataset.id)")
    return [int(i) for i in ids]


def counts(page: Any) -> list[str]:
    """Characters, bytes, tokens, bytes per token."""
    found: list[str] = page.locator(".token-counts dd").all_inner_texts()
    return found


def test_the_reader_types_and_sees_ids_bytes_and_counts(
    go: Any, tokenizer: Tokenizer
) -> None:
    page = go("tokenizer")
    text = "café 👩\u200d👧 e\u0301 x"
    page.get_by_label("Your text").fill(text)
    ids = tokenizer.encode(text)
    assert shown(page) == ids
    boxes = page.locator(".token").all_inner_texts()
    for box, i in zip(boxes, ids, strict=True):
        lines = box.split("\n")
        assert lines[-2:] == [str(i), tokenizer.tokens[i].hex(" ").upper()]
    assert boxes[0].startswith("c") and any(box.startswith("␣") for box in boxes)
    size = len(text.encode())
    assert counts(page) == [
        str(len(text)),
        str(size),
        str(len(ids)),
        f"{size / len(ids):.2f}",
    ]
    page.get_by_label("Your text").fill("")
    assert shown(page) == []
    assert counts(page) == ["0", "0", "0", "–"]


def test_the_merges_are_stepped_through(go: Any, tokenizer: Tokenizer) -> None:
    page = go("tokenizer")
    text = "the kite"
    page.get_by_label("Your text").fill(text)
    final = tokenizer.encode(text)
    said = page.locator(".widget-said")
    slider = page.get_by_role("slider")
    last = int(slider.get_attribute("max"))
    assert said.inner_text().startswith(f"Merge {last} of {last}: ")

    def press(name: str) -> None:
        page.get_by_role("button", name=name, exact=True).click()

    press("First")
    assert len(shown(page)) == len(text)
    assert "the bytes, before any merge" in said.inner_text()
    press("Back")
    assert slider.input_value() == "0"
    press("Next")
    pair = page.locator(".widget-said code").all_inner_texts()
    new = page.locator(".token.made")
    assert pair[2] == pair[0] + pair[1] and new.count() >= 1
    assert new.first.inner_text().startswith(pair[2])
    assert len(shown(page)) == len(text) - new.count()
    press("Last")
    assert shown(page) == final
    press("Next")
    assert shown(page) == final
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert slider.input_value() == str(last - 1)
    assert slider.get_attribute("aria-valuetext") == f"{last - 1} of {last}"
    page.keyboard.press("Home")
    assert len(shown(page)) == len(text)


def test_playing_ends_at_the_last_merge_and_can_be_paused(go: Any) -> None:
    page = go("tokenizer")
    page.get_by_label("Your text").fill("the")
    slider, said = page.get_by_role("slider"), page.locator(".widget-said")
    page.get_by_role("button", name="Play").click()
    assert slider.input_value() == "0"
    assert said.get_attribute("aria-live") == "off"
    page.get_by_role("button", name="Pause").click()
    assert said.get_attribute("aria-live") == "polite"
    page.get_by_role("button", name="Play").click()
    page.wait_for_function(
        "document.querySelector('.token-steps input').value === "
        "document.querySelector('.token-steps input').max"
    )
    page.get_by_role("button", name="Play").wait_for()


def test_nothing_plays_for_readers_who_want_no_motion(go: Any) -> None:
    page = go("tokenizer", reduced_motion="reduce")
    assert page.get_by_role("button", name="Play").count() == 0
    page.emulate_media(reduced_motion="no-preference")
    page.get_by_role("button", name="Play").click()
    page.emulate_media(reduced_motion="reduce")
    before = page.get_by_role("slider").input_value()
    page.wait_for_timeout(700)
    assert page.get_by_role("slider").input_value() == before


def test_a_mark_is_text_unless_it_is_allowed(go: Any, tokenizer: Tokenizer) -> None:
    page = go("tokenizer")
    page.get_by_role("button", name="A mark").click()
    text = page.get_by_label("Your text").input_value()
    assert "<|endoftext|>" in text
    assert shown(page) == tokenizer.encode(text)
    page.get_by_role("checkbox", name="allow special tokens").check()
    assert shown(page) == tokenizer.encode(text, allowed_special="all")
    assert page.locator(".token", has_text="<|endoftext|>").count() == 1


def test_the_examples_begin_with_the_sentence_of_the_figure(
    go: Any, values: dict[str, Any], tokenizer: Tokenizer
) -> None:
    page = go("tokenizer")
    examples = values["tokenizer"]["examples"]
    assert page.get_by_label("Your text").input_value() == next(iter(examples.values()))
    for label, text in examples.items():
        page.get_by_role("button", name=label, exact=True).click()
        assert shown(page) == tokenizer.encode(text)


@pytest.mark.parametrize("label", ["A story", "Hindi", "A family", "A mark"])
def test_axe_finds_nothing_in_the_playground(go: Any, label: str) -> None:
    page = go("tokenizer")
    page.get_by_role("button", name=label).click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Back").click()
    assert violations(page) == []


def test_what_cannot_be_seen_is_named(go: Any) -> None:
    page = go("tokenizer")
    page.get_by_label("Your text").fill("a b\n\tc\u0301\x7f")
    boxes = [text.split("\n")[0] for text in page.locator(".token").all_inner_texts()]
    joined = "".join(boxes)
    for name in ("␣", "↵", "⇥", "U+007F", "�"):
        assert name in joined, boxes


# The attention explorer.

OPTIONS = [
    {"scale": scale, "temperature": temperature, "causal": causal}
    for scale in (1.0, None)
    for temperature in (0.1, 1.0, 3.7, 10.0)
    for causal in (True, False)
]


def weights(
    products: list[list[float]], scale: float, temperature: float, causal: bool
) -> torch.Tensor:
    scores = torch.tensor(products, dtype=torch.float64) * scale / temperature
    if causal:
        future = torch.ones_like(scores).triu(1).bool()
        scores = scores.masked_fill(future, -torch.inf)
    return scores.softmax(dim=-1)


def test_the_weights_are_those_of_torch(go: Any, values: dict[str, Any]) -> None:
    data = values["attention"]
    page, scale = go("attention"), data["head_width"] ** -0.5
    for option in OPTIONS:
        given = {**option, "scale": option["scale"] or scale}
        for story in data["stories"]:
            found = page.evaluate(
                """([story, options]) => { const {model} = bookWidgets.known.attention;
                const {weights} = model({head_width: 1});
                return story.products.map(rows => weights(rows, options)); }""",
                [story, given],
            )
            for rows, products in zip(found, story["products"], strict=True):
                expected = weights(products, **given)
                ours = torch.tensor(rows, dtype=torch.float64)
                assert (ours - expected).abs().max() < 1e-6


def brief(weight: float) -> str:
    """As the chapter's figure writes it."""
    return f"{weight:.2f}".lstrip("0")


def matrix(page: Any) -> list[list[str]]:
    found: list[list[str]] = page.locator(".attention-matrix tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.querySelectorAll('td')].map(c => c.textContent))"
    )
    return found


def test_it_opens_on_what_the_figure_shows(go: Any, values: dict[str, Any]) -> None:
    data, page = values["attention"], go("attention")
    story = data["stories"][data["start"]]
    assert " ".join(story["words"]) == "ball attic cup barn drum cave hat tent cup"
    scale = data["head_width"] ** -0.5
    for layer in (1, 0):  # the second layer is chosen first
        page.get_by_role("radio", name=f"layer {layer + 1}").check()
        expected = weights(story["products"][layer], scale, 1.0, True).tolist()
        numbers = [[brief(w) if w >= 0.1 else "" for w in row] for row in expected]
        assert matrix(page) == numbers
        read = page.locator(".choice-word .choice-weight").all_inner_texts()
        assert read == [brief(w) for w in expected[-1]]
    page = go("attention")
    said = page.locator(".widget-said").inner_text()
    assert said.startswith("In layer 2, cup (word 9) reads barn .9")
    assert page.locator(".choice-word label.strong").inner_text().startswith("barn")


def test_a_word_is_chosen_by_keyboard_click_and_pointer(go: Any) -> None:
    page = go("attention")
    said = page.locator(".widget-said")
    page.get_by_role("group", name="The outlined word reads").get_by_role(
        "radio"
    ).last.focus()
    page.keyboard.press("ArrowLeft")
    assert "tent (word 8) reads" in said.inner_text()
    page.keyboard.press("ArrowRight")
    assert "cup (word 9) reads" in said.inner_text()
    page.locator(".choice-word label").nth(3).hover()
    assert "barn (word 4) reads" in said.inner_text()
    assert said.get_attribute("aria-live") == "off"
    page.locator("h1").hover()
    assert "cup (word 9) reads" in said.inner_text()
    assert said.get_attribute("aria-live") == "polite"
    page.locator(".choice-word label").nth(4).click()
    page.locator("h1").hover()
    assert "drum (word 5) reads" in said.inner_text()
    page.locator(".attention-matrix tbody tr").nth(1).click()
    page.locator("h1").hover()
    assert "attic (word 2) reads" in said.inner_text()
    assert page.locator("tr.reader th").inner_text() == "attic"
    assert page.locator(".choice-word label.reader").inner_text().startswith("attic")


def test_another_question_reads_another_place(go: Any, values: dict[str, Any]) -> None:
    page = go("attention")
    scale = values["attention"]["head_width"] ** -0.5
    for story in values["attention"]["stories"]:
        page.get_by_role("radio", name=f"{story['words'][-1]}?").check()
        row = weights(story["products"][1], scale, 1.0, True)[-1]
        place = story["words"][int(row.argmax())]
        assert (
            f"{story['words'][-1]} (word 9) reads {place}"
            in page.locator(".widget-said").inner_text()
        )


def test_scale_mask_and_temperature_change_the_softmax(
    go: Any, values: dict[str, Any]
) -> None:
    data, page = values["attention"], go("attention")
    story, scale = data["stories"][data["start"]], data["head_width"] ** -0.5

    def rows(*options: Any) -> list[list[str]]:
        expected = weights(story["products"][1], *options).tolist()
        return [[brief(w) if w >= 0.1 else "" for w in row] for row in expected]

    page.get_by_role("checkbox", name="divide by √D (D = 32)").uncheck()
    assert matrix(page) == rows(1.0, 1.0, True)
    page.get_by_role("checkbox", name="causal mask").uncheck()
    assert matrix(page) == rows(1.0, 1.0, False)
    assert page.locator("td.masked").count() == 0
    page.get_by_role("slider").fill("1")
    assert matrix(page) == rows(1.0, 10.0, False)
    assert page.get_by_role("slider").get_attribute("aria-valuetext") == "10.0"
    page.get_by_role("button", name="As in the chapter").click()
    assert matrix(page) == rows(scale, 1.0, True)
    assert page.locator("td.masked").count() == 36


@pytest.mark.parametrize(
    ("heat", "causal"), [("-1", True), ("0", False), ("0.3", True), ("1", False)]
)
def test_axe_finds_nothing_in_the_explorer(go: Any, heat: str, causal: bool) -> None:
    page = go("attention")
    page.get_by_role("radio", name="layer 1").check()
    page.get_by_role("slider").fill(heat)
    page.get_by_role("checkbox", name="causal mask").set_checked(causal)
    assert violations(page) == []
