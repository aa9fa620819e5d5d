"""The files around the book agree with each other.

`python tests/test_repository.py` writes CONTRIBUTING's table of the tool's modules.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    prose = re.sub(r"^(`{3,}).*?^\1$", "", text(name), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        if not re.match(r"https?:", target):
            assert (ROOT / target).exists(), f"{name} links to {target}"


def test_the_readme_names_the_two_commands_and_the_import() -> None:
    readme = text("README.md")
    assert "pip install nox && nox -s book" in readme
    assert "nox -s tests" in readme
    [statement] = re.findall(r"^from extracted\..*$", readme, re.MULTILINE)
    exec(statement)


def test_contributing_explains_every_dependency() -> None:
    section = text("CONTRIBUTING.md").split("## Dependencies")[1]
    explained = set(re.findall(r"^\| ([\w-]+)(?: \(.*?\))? \| ", section, re.MULTILINE))
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    needed = {
        re.match(r"[\w-]+", requirement)[0]  # type: ignore[index]
        for requirement in [*PROJECT["dependencies"], *extras]
    }
    needed.discard(PROJECT["name"])
    assert explained == needed


ROOMS = re.compile(r"(<!-- rooms: .*? -->\n).*(<!-- end of rooms -->)", re.DOTALL)
FIRST = [
    "cli",
    "commands",
    "errors",
    "files",
    "cell",
    "chapter",
    "names",
    "rules",
    "book",
]


def room_table() -> str:
    """CONTRIBUTING's table: the first sentence of each module's docstring."""
    tool = ROOT / "bookbuild"
    modules = {p.stem: p for p in tool.glob("*.py") if not p.stem.startswith("_")}
    order = FIRST + sorted(set(modules) - set(FIRST))
    rooms = [(f"{name}.py", modules[name]) for name in order]
    rooms += [(f"{p.parent.name}/", p) for p in sorted(tool.glob("*/__init__.py"))]
    rows = ["", "| module | |", "|---|---|"]
    for name, path in rooms:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstring = ast.get_docstring(tree) or ""
        assert docstring, f"{path} has no docstring"
        rows.append(
            f"| `{name}` | {' '.join(docstring.split(chr(10) * 2)[0].split())} |"
        )
    return "\n".join([*rows, "", ""])


def test_contributing_shows_every_room_of_the_tool() -> None:
    found = ROOMS.search(text("CONTRIBUTING.md"))
    assert found
    expected = f"{found[1]}{room_table()}{found[2]}"
    assert found[0] == expected, "run: python tests/test_repository.py"


def test_modules_of_the_tool_are_short() -> None:
    for path in sorted((ROOT / "bookbuild").rglob("*.py")):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 300, f"{path.relative_to(ROOT)} has {lines} lines"


def test_versions_agree() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"]
    assert f"## {PROJECT['version']}" in text("CHANGELOG.md")
    assert " AND ".join(citation["license"]) == "Apache-2.0 AND CC-BY-SA-4.0"
    assert PROJECT["license"].upper() == "APACHE-2.0 AND CC-BY-SA-4.0"


def test_constraints_pin_every_direct_dependency_and_no_local_build() -> None:
    lines = [
        line for line in text("constraints.txt").split("\n") if line[:1] not in "#"
    ]
    pins = dict(line.split("==") for line in lines if line)
    assert list(pins) == sorted(pins)
    assert not [pin for pin in pins.items() if "+" in pin[1] or "@" in pin[1]]
    extras = [r for group in PROJECT["optional-dependencies"].values() for r in group]
    for requirement in [*PROJECT["dependencies"], *extras]:
        name = re.split(r"[^\w-]", requirement)[0].lower()
        assert name in {*pins, PROJECT["name"]}, name


def test_the_licences_are_whole() -> None:
    assert "END OF TERMS AND CONDITIONS" in text("LICENSE")
    prose = text("LICENSE-prose")
    assert prose.startswith("Attribution-ShareAlike 4.0 International")
    assert "Section 8 -- Interpretation." in prose


def test_continuous_integration_runs_the_readmes_commands() -> None:
    jobs = yaml.safe_load(text(".github/workflows/ci.yml"))["jobs"]
    matrix = jobs["tests"]["strategy"]["matrix"]
    assert [name.split("-")[0] for name in matrix["os"]] == [
        "ubuntu",
        "macos",
        "windows",
    ]
    assert matrix["python"] == ["3.11", "3.13"]
    steps = [step.get("run") for step in jobs["tests"]["steps"]]
    assert {"pip install nox", "nox -s tests"} <= set(steps)
    assert "nox -s book" in [step.get("run") for step in jobs["site"]["steps"]]
    assert jobs["publish"]["needs"] == ["tests", "site"]


def test_hooks_need_no_network() -> None:
    [repository] = yaml.safe_load(text(".pre-commit-config.yaml"))["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    entries = " ".join(hook["entry"] for hook in repository["hooks"])
    for command in ("ruff format", "ruff check", "mypy", "bookbuild tangle --check"):
        assert command in entries


def test_nox_has_a_session_for_each_task() -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "nox", "-f", str(ROOT / "noxfile.py"), "-l"],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert listing.returncode == 0, listing.stderr
    found = dict(re.findall(r"^([*-] \w+) -> (\S.*)$", listing.stdout, re.MULTILINE))
    tasks = ["tests", "execute", "accept", "tangle", "check", "serve", "zip", "pdf"]
    tasks += ["epub", "notebooks", "bench"]
    assert list(found) == ["* book", *(f"- {task}" for task in tasks)]


if __name__ == "__main__":
    table = room_table()
    new = ROOMS.sub(
        lambda found: f"{found[1]}{table}{found[2]}", text("CONTRIBUTING.md")
    )
    (ROOT / "CONTRIBUTING.md").write_bytes(new.encode())
