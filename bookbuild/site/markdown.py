"""MyST to the plain Markdown that Jupyter shows: directives and roles become text."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from posixpath import join, normpath, relpath
from typing import Any

from bookbuild.site.numbers import EQUATION, Target

FENCE = re.compile(r"^(?P<indent>\s*)(?P<marks>`{3,}|~{3,}|:{3,})(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[\w:-]+)\}\s*(?P<argument>.*?)\s*$")
OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")
ROLE = re.compile(r"\{([\w:]+)\}`([^`]+)`")
TITLED = re.compile(r"^(.*?)\s*<([^<>]+)>$", re.DOTALL)
CHOICE = re.compile(r"^- \[([ xX])\]\s+")
CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
PAGE = re.compile(r"\]\(([^)\s:#]+)\.md(?:#[^)\s]*)?\)")
EMPTY = ("bibliography", "exercise-end", "solution-end", "tableofcontents", "widget")
GLUED = "application/papermill.record/text/plain"


@dataclass(frozen=True)
class Context:
    """What roles and links need: the chapter's name, all targets, values, citations."""

    chapter: str = ""
    targets: Mapping[str, Target] = field(default_factory=dict)
    titles: Mapping[str, str] = field(default_factory=dict)
    executed: frozenset[str] = frozenset()
    glued: Mapping[str, str] = field(default_factory=dict)
    citations: Mapping[str, str] = field(default_factory=dict)


def convert(text: str, context: Context) -> str:
    """`text` of a Markdown cell as Jupyter understands it."""
    lines, shown = text.split("\n"), list[str]()
    at = 0
    while at < len(lines):
        line = lines[at]
        fence = FENCE.match(line)
        if fence:
            end = _end(lines, at, fence["marks"])
            directive = DIRECTIVE.match(fence["info"].strip())
            if directive:
                block = _directive(directive, lines[at + 1 : end], context)
                shown.extend(fence["indent"] + part if part else part for part in block)
            else:
                shown.extend(lines[at : end + 1])
            at = end + 1
            continue
        at += 1
        if re.match(r"^\([^)\s]+\)=\s*$", line) or line.startswith("% "):
            continue
        if equation := EQUATION.match(line):
            target = context.targets.get(equation[1])
            shown += [f"\\tag{{{target.number}}}", "$$"] if target else ["$$"]
            continue
        line = re.sub(r"^\[\^([^\]]+)\]:\s*", r"<sup>\1</sup> ", line)
        shown.append(roles(re.sub(r"\[\^([^\]]+)\]", r"<sup>\1</sup>", line), context))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(shown)).strip("\n")


def _end(lines: list[str], start: int, marks: str) -> int:
    for number in range(start + 1, len(lines)):
        stripped = lines[number].strip()
        if set(stripped) == {marks[0]} and len(stripped) >= len(marks):
            return number
    return len(lines)


def _directive(found: re.Match[str], body: list[str], context: Context) -> list[str]:
    name, argument = found["name"], roles(found["argument"], context)
    options: dict[str, str] = {}
    while body and (option := OPTION.match(body[0].strip())):
        options[option[1]] = option[2]
        body = body[1:]
    text = "\n".join(body).strip("\n")
    if name == "math":
        return _math(text, options, context)
    if name == "quiz":
        return _quiz(text, context)
    if name in ("figure", "image"):
        image = f"![{options.get('alt', '')}]({found['argument']})"
        return [image, "", *convert(text, context).split("\n")]
    if name in EMPTY:
        return []
    if name in ("exercise-start", "exercise"):
        target = context.targets.get(options.get("label", ""))
        number = f" {target.number}" if target else ""
        title = f": {argument}" if argument else ""
        return [f"### Exercise{number}{title}", "", *convert(text, context).split("\n")]
    if name in ("solution-start", "solution"):
        return ["**Solution**", "", *convert(text, context).split("\n")]
    if name == "glossary":
        return convert(text, context).split("\n")
    inner = convert(text, context)
    title = name.replace("-", " ").capitalize()
    if name in ("admonition", "margin", "topic", "sidebar", "dropdown"):
        title = argument or title
    elif argument and name not in ("code-block", "code"):
        inner = f"{argument}\n\n{inner}" if inner else argument
    if name in ("code-block", "code"):
        return [f"```{found['argument']}", *text.split("\n"), "```"]
    if "dropdown" in options.get("class", ""):
        return [
            "<details>",
            f"<summary>{title}</summary>",
            "",
            *inner.split("\n"),
            "",
            "</details>",
        ]
    return [f"> {line}".rstrip() for line in [f"**{title}**", "", *inner.split("\n")]]


def _math(text: str, options: Mapping[str, str], context: Context) -> list[str]:
    target = context.targets.get(options.get("label", ""))
    if (r"\\" in text or "&" in text) and r"\begin" not in text:
        text = f"\\begin{{aligned}}\n{text}\n\\end{{aligned}}"
    if target:
        text += f"\n\\tag{{{target.number}}}"
    return ["$$", *text.split("\n"), "$$"]


def _quiz(text: str, context: Context) -> list[str]:
    """The question, then each choice with its explanation folded."""
    shown: list[str] = ["**Question.** "]
    verdict = ""
    for line in text.split("\n"):
        choice = CHOICE.match(line)
        if choice:
            shown.extend(["</details>", ""] if verdict else [""])
            verdict = "Not this one." if choice[1] == " " else "Right."
            answer = roles(line[choice.end() :], context)
            shown += [
                f"- {answer}",
                "",
                "<details>",
                "<summary>Is it this one?</summary>",
                "",
                verdict,
            ]
        elif verdict:
            shown.append(roles(line.removeprefix("  "), context))
        else:
            shown.append(roles(line, context))
    shown[0] += shown.pop(1)
    return [*shown, "", "</details>"] if verdict else shown


def roles(text: str, context: Context) -> str:
    """Replace the roles of one line; code spans stay as they are."""

    def replace(found: re.Match[str]) -> str:
        return _role(found[1], found[2], context)

    def link(found: re.Match[str]) -> str:
        folder = context.chapter.rpartition("/")[0]
        name = normpath(join(folder, found[1]))
        return f"]({found[1]}.ipynb)" if name in context.executed else found[0]

    pieces, at = list[str](), 0
    for span in CODE.finditer(text):
        if re.search(r"\{[\w:]+\}$", text[: span.start()]):
            continue
        pieces += [PAGE.sub(link, ROLE.sub(replace, text[at : span.start()])), span[0]]
        at = span.end()
    return "".join([*pieces, PAGE.sub(link, ROLE.sub(replace, text[at:]))])


def _role(name: str, content: str, context: Context) -> str:
    titled = TITLED.match(content)
    title, label = (titled[1], titled[2]) if titled else ("", content)
    target = context.targets.get(label)
    handlers: dict[str, Callable[[], str]] = {
        "numref": lambda: f"{target.kind} {target.number}".strip() if target else label,
        "eq": lambda: f"({target.number})" if target else label,
        "ref": lambda: _link(title, target, context) if target else title or label,
        "doc": lambda: title or context.titles.get(label.lstrip("/"), label),
        "term": lambda: title or content,
        "download": lambda: title or label,
        "sub": lambda: f"<sub>{content}</sub>",
        "sup": lambda: f"<sup>{content}</sup>",
    }
    if name.startswith("cite"):
        found = [
            context.citations.get(key.strip(), key.strip())
            for key in content.split(",")
        ]
        return "; ".join(found)
    if name.startswith("glue"):
        return glued_text(content, context.glued)
    if name == "math":
        return f"${content}$"
    if name in handlers:
        return handlers[name]()
    return f"`{content}`"


def _link(title: str, target: Target, context: Context) -> str:
    shown = title or target.title or context.titles.get(target.chapter, "")
    if target.kind not in ("section",) and not title:
        return f"{target.kind} {target.number}".strip()
    if target.chapter == context.chapter:
        return shown
    here = context.chapter.rpartition("/")[0] or "."
    return f"[{shown}]({relpath(target.chapter, here)}.ipynb)"


def glued_text(content: str, glued: Mapping[str, str]) -> str:
    """`name` or `name:.2f` as MyST-NB shows it."""
    name, _, specification = content.partition(":")
    value = glued.get(name)
    if value is None:
        return f"({name})"
    try:
        literal: Any = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        literal = value
    if specification:
        return format(literal, specification)
    return str(literal)
