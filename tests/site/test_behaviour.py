"""What the pages do: questions, folds, previews, search, colours, paper, no script."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def go(browser: Any, sample: Path) -> Iterator[Any]:
    contexts = []

    def open_page(name: str, *, width: int = 1280, **options: Any) -> Any:
        contexts.append(
            browser.new_context(viewport={"width": width, "height": 900}, **options)
        )
        page = contexts[-1].new_page()
        file, _, anchor = name.partition("#")
        page.goto((sample / f"{file}.html").as_uri() + (f"#{anchor}" if anchor else ""))
        return page

    yield open_page
    for context in contexts:
        context.close()


def test_a_choice_is_explained_and_remembered(go: Any) -> None:
    page = go("part/counting")
    quiz = page.locator("#quiz-count")
    assert not quiz.get_by_text("There is no pair after the last word.").is_visible()
    quiz.get_by_text("Four.").click()
    assert quiz.get_by_text("Not this one.").first.is_visible()
    assert quiz.get_by_text("There is no pair after the last word.").first.is_visible()
    assert "There is no pair" in quiz.locator("[role=status]").inner_text()
    quiz.get_by_text("Three.").click()
    assert quiz.locator(".quiz-verdict:visible").all_inner_texts() == ["Right."]
    page.reload()
    assert quiz.locator("input:checked").evaluate("i => i.value") == "2"
    assert quiz.get_by_text("Each word but the last starts a pair.").first.is_visible()
    assert page.locator("#quiz-second input:checked").count() == 0


def test_a_choice_by_keyboard(go: Any) -> None:
    page = go("part/counting")
    page.locator("#quiz-count input").first.focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("#quiz-count .quiz-verdict:visible").inner_text() == "Right."


def test_without_javascript_the_answers_are_folded(go: Any) -> None:
    page = go("part/counting", java_script_enabled=False)
    quiz = page.locator("#quiz-count")
    assert quiz.locator("summary:visible").count() == 3
    quiz.locator("summary").nth(1).click()
    assert quiz.get_by_text("Each word but the last starts a pair.").is_visible()
    assert page.get_by_text("Use three slices.").count() == 1
    assert not page.locator("#theme-button").is_visible()


def test_on_paper_everything_is_unfolded(go: Any) -> None:
    page = go("part/counting")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    for gone in (".top-bar", ".book-nav", ".page-end", ".copy"):
        assert not page.locator(gone).first.is_visible(), gone
    reason, hint = "There is no pair after the last word.", "Use three slices."
    for text in (
        reason,
        "Each word but the last",
        hint,
        "There is one less than pairs.",
    ):
        assert page.get_by_text(text).first.is_visible(), text
    assert page.pdf()[:5] == b"%PDF-"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.get_by_text("Use three slices.").is_visible()


def test_paper_is_white_whatever_the_screen(go: Any) -> None:
    page = go("part/counting", color_scheme="dark")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.emulate_media(media="print", color_scheme="dark")
    style = "(p => getComputedStyle(document.body)[p])"
    assert page.evaluate(f"{style}('backgroundColor')") == "rgb(255, 255, 255)"
    assert page.evaluate(f"{style}('color')") == "rgb(0, 0, 0)"


def test_a_solution_unfolds_with_its_cells_and_by_keyboard(go: Any) -> None:
    page = go("part/counting")
    summary = page.locator("details.solution > summary")
    assert summary.inner_text() == "Solution to Exercise 1.1 (Count triples)"
    summary.focus()
    page.keyboard.press("Enter")
    fold = page.locator("details.solution")
    assert fold.locator(".tag_solution pre").is_visible()
    assert (
        fold.locator(".tag_grade .cell-caption").inner_text()
        == "Tests that your code must pass"
    )
    assert fold.get_by_text("There is one less than pairs.").is_visible()


@pytest.mark.parametrize("how", ["hover", "focus"])
@pytest.mark.parametrize(
    ("link", "text"),
    [
        ("bigram", "A pair of words that stand side by side."),
        ("Shannon, 1948", "A Mathematical Theory of Communication"),
        ("Attending", "Attention over the words before."),
        ("Figure 1.1", "The loss falls"),
    ],
)
def test_a_link_shows_what_it_points_to(
    go: Any, how: str, link: str, text: str
) -> None:
    page = go("part/counting")
    anchor = page.locator("article > section > p a", has_text=link).first
    preview = page.locator("#preview")
    if how == "hover":
        anchor.hover()
    else:
        before = "document.querySelector('.build-card a').focus()"
        page.evaluate(before)
        for _ in range(20):
            page.keyboard.press("Tab")
            if anchor.evaluate("a => a === document.activeElement"):
                break
    preview.wait_for(state="visible")
    assert text.lower() in preview.inner_text().lower()
    assert anchor.get_attribute("aria-describedby") == "preview"
    page.keyboard.press("Escape")
    preview.wait_for(state="hidden")
    assert anchor.get_attribute("aria-describedby") is None


def test_an_equation_is_numbered_and_previewed_as_mathml(go: Any) -> None:
    page = go("part/counting")
    assert page.locator(".eqno").inner_text().startswith("(1.1)")
    page.locator("article p a", has_text="(1.1)").hover()
    page.locator("#preview math").wait_for(state="visible")
    assert page.locator("#preview munder").count() > 0


def test_search_finds_text_from_any_page(go: Any) -> None:
    page = go("appendix/glossary")
    page.keyboard.press("/")
    page.get_by_role("searchbox").fill("zyzzyva")
    result = page.locator(".search-results a")
    result.first.wait_for()
    assert result.count() == 1
    assert result.locator("mark").inner_text() == "zyzzyva"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/part/attending.html*")


def test_search_shows_formulas_as_they_look(go: Any) -> None:
    page = go("search")
    page.get_by_role("searchbox").fill("text of four words")
    found = page.locator(".search-results a").first
    found.wait_for()
    assert "as n−1 says" in found.inner_text()


def test_search_ranks_titles_first_and_says_when_there_is_nothing(go: Any) -> None:
    page = go("search")
    box = page.get_by_role("searchbox")
    assert box.evaluate("b => b === document.activeElement")
    box.fill("attending")
    page.locator(".search-results a").first.wait_for()
    assert page.locator(".search-results strong").first.inner_text() == "Attending"
    box.fill("there is no such word qqq")
    page.get_by_text("Nothing has all these words.").wait_for()


def test_code_can_be_found_by_name(go: Any) -> None:
    page = go("index")
    page.keyboard.press("Control+k")
    page.get_by_role("searchbox").fill("attend(words")
    page.locator(".search-results a").first.wait_for()
    assert "part/attending" in page.locator(".search-results a").first.get_attribute(
        "href"
    )


def test_an_exported_cell_leads_to_its_module_and_back(go: Any) -> None:
    page = go("part/counting")
    page.locator(".caption-export a").click()
    assert page.url.endswith("_modules/part/counting.html#count")
    assert page.locator("h1").inner_text() == "extracted/part/counting.py"
    page.locator("a.cell-marker").click()
    assert page.url.endswith("part/counting.html#cell-count")
    assert page.locator("#cell-count").evaluate(
        "e => e.classList.contains('tag_export')"
    )


def test_the_card_tells_the_facts_and_the_map_where_you_are(
    go: Any, sample: Path
) -> None:
    page = go("part/attending")
    facts = page.locator(".build-facts").inner_text()
    assert "extracted.part.attending" in facts
    assert "Needs" in facts and "Counting" in facts
    assert "12 s on 2 CPU cores" in facts
    for link in page.locator(".build-facts a[href$='.ipynb']").all():
        target = Path(sample, "part", link.get_attribute("href"))
        assert target.resolve().is_file()
    squares = page.locator(".here-map a")
    assert [s.get_attribute("aria-current") for s in squares.all()] == [None, "page"]
    assert squares.first.get_attribute("class") == "needed"
    page = go("part/counting")
    assert "Used by" in page.locator(".build-facts").inner_text()


def test_colours_follow_the_system_until_chosen(go: Any) -> None:
    page = go("part/counting", color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    image = "getComputedStyle(document.querySelector('figure img')).filter"
    assert "invert" in page.evaluate(image)
    page.locator("#theme-button").click()
    assert page.evaluate(background) != dark
    assert page.evaluate(image) == "none"
    page.reload()
    assert page.evaluate(background) != dark
    assert page.locator("#theme-button").get_attribute("aria-label") == "Colours: light"


def test_a_note_stands_in_the_margin_or_under_its_paragraph(go: Any) -> None:
    page = go("part/counting", width=1280)
    text = page.locator("article p", has_text="is counted").first.bounding_box()
    note = page.locator(".sidenote").bounding_box()
    assert note["x"] >= text["x"] + text["width"]
    assert not page.locator(".sidenote-below").is_visible()
    page = go("part/counting", width=390)
    text = page.locator("article p", has_text="is counted").first.bounding_box()
    note = page.locator(".sidenote-below").bounding_box()
    margin = page.locator("aside.margin").bounding_box()
    assert note["y"] >= text["y"] + text["height"] - 12
    assert note["width"] > 300 and margin["width"] > 300 and text["width"] > 300


@pytest.mark.parametrize("script", [True, False])
def test_the_menu_of_a_phone(go: Any, script: bool) -> None:
    page = go("part/counting", width=390, java_script_enabled=script)
    menu = page.locator("#book-nav")
    assert not menu.is_visible()
    page.locator("#menu-button").click()
    assert menu.is_visible()
    assert menu.locator("[aria-current=page]").first.inner_text().endswith("Counting")
    page.locator(".nav-close").click()
    assert not menu.is_visible()


def test_the_code_of_a_cell_is_copied(go: Any) -> None:
    page = go("part/counting")
    page.locator(".tag_export .highlight").hover()
    page.locator(".tag_export .copy").click()
    page.locator(".tag_export .copy", has_text="Copied").wait_for()


def test_the_end_of_a_page(go: Any, sample: Path) -> None:
    page = go("part/counting")
    edit = page.get_by_text("Edit this page").get_attribute("href")
    assert edit == "https://example.org/book/edit/main/book/part/counting.md"
    for text in ("Download this chapter", "with its outputs"):
        notebook = page.get_by_text(text).get_attribute("href")
        assert (sample / "part" / notebook).resolve().is_file()
    page.locator("a[rel=next]").last.click()
    assert page.locator("h1").inner_text().endswith("Attending#")


def test_the_map_says_what_is_planned(go: Any) -> None:
    page = go("appendix/map")
    assert page.locator("dt", has_text="Counting").locator("a").count() == 1
    later = page.locator("dt", has_text="Later")
    assert later.locator("a").count() == 0
    assert later.locator(".planned").inner_text() == "planned"


def test_an_exercise_names_the_command_that_begins_it(go: Any) -> None:
    page = go("part/counting")
    command = page.locator(".caption-starter code").first.inner_text()
    assert re.fullmatch(r"bookbuild exercise start ex-[\w-]+", command)


def test_a_figure_fills_the_width_of_a_phone(go: Any) -> None:
    page = go("part/counting", width=390)
    figure = page.locator("section > .cell figure").first.bounding_box()
    assert (round(figure["x"]), round(figure["width"])) == (0, 390)


def test_a_link_into_a_fold_opens_it(go: Any) -> None:
    page = go("part/counting")
    name = page.locator("details.solution").get_attribute("id")
    page.evaluate("id => { location.hash = id }", name)
    page.wait_for_function("document.querySelector('details.solution').open")
