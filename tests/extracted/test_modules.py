"""What every module of the package owes its users, whatever it teaches."""

import ast
import inspect
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "extracted").rglob("*.py")
)
Function = ast.FunctionDef | ast.AsyncFunctionDef

IMPORT_EACH_ALONE = """
import importlib, sys, traceback
failed = False
for name in sys.argv[1:]:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "extracted"]:
        del sys.modules[loaded]
    try:
        importlib.import_module(name)
    except BaseException:
        failed = True
        print(name, traceback.format_exc(), sep=chr(10))
    if "bookbuild" in sys.modules:
        failed = True
        print(name, "imports bookbuild")
sys.exit(failed)
"""


def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def functions(node: ast.AST, inside: str = "") -> Iterator[tuple[str, Function]]:
    """Every function and method, with its dotted name."""
    for child in ast.iter_child_nodes(node):
        name = f"{inside}{getattr(child, 'name', '')}"
        if isinstance(child, Function):
            yield name, child
            yield from functions(child, f"{name}.")
        elif isinstance(child, ast.ClassDef):
            yield from functions(child, f"{name}.")


def public(name: str) -> bool:
    pieces = name.split(".")
    return all(not piece.startswith("_") or piece == "__init__" for piece in pieces)


def test_each_module_imports_alone() -> None:
    names = [path.removesuffix(".py").removesuffix("/__init__") for path in MODULES]
    dotted = [name.replace("/", ".") for name in names]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "error::SyntaxWarning",
            "-c",
            IMPORT_EACH_ALONE,
            *dotted,
        ],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout == "", "a module prints when it is imported"


@pytest.mark.parametrize("path", MODULES)
def test_it_imports_only_what_a_user_installs(path: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dependencies = project["project"]["dependencies"]
    allowed = {requirement.split(">")[0] for requirement in dependencies}
    allowed |= {"extracted", *sys.stdlib_module_names} - {"matplotlib", "ipython"}
    for node in ast.walk(tree(path)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in allowed, f"{path}:{node.lineno}: {name}"


@pytest.mark.parametrize("path", MODULES)
def test_public_names_have_docstrings(path: str) -> None:
    module = tree(path)
    assert ast.get_docstring(module)
    for node in module.body:
        if isinstance(node, Function | ast.ClassDef) and public(node.name):
            assert ast.get_docstring(node), f"{path}:{node.lineno}: {node.name}"


@pytest.mark.parametrize("path", MODULES)
def test_public_signatures_are_typed(path: str) -> None:
    for name, function in functions(tree(path)):
        if not public(name) or ("." in name and not is_method(path, name)):
            continue
        arguments = inspect_arguments(function, method="." in name)
        missing = [a.arg for a in arguments if a.annotation is None]
        assert not missing, f"{path}:{function.lineno}: {name}({', '.join(missing)})"
        typed = function.returns is not None or name.endswith("__init__")
        assert typed, f"{path}:{function.lineno}: {name} -> ?"


def is_method(path: str, name: str) -> bool:
    """Whether the dotted name is a class's, and not of a function inside another."""
    classes = {
        node.name for node in ast.walk(tree(path)) if isinstance(node, ast.ClassDef)
    }
    return name.split(".")[-2] in classes


def inspect_arguments(function: Function, *, method: bool) -> list[ast.arg]:
    found = function.args
    static = any(
        isinstance(d, ast.Name) and d.id == "staticmethod"
        for d in function.decorator_list
    )
    positional = [*found.posonlyargs, *found.args][method and not static :]
    stars = [star for star in (found.vararg, found.kwarg) if star]
    return [*positional, *found.kwonlyargs, *stars]


@pytest.mark.parametrize("path", MODULES)
def test_lines_and_functions_are_short(path: str) -> None:
    for number, line in enumerate(
        (ROOT / path).read_text(encoding="utf-8").split("\n"), 1
    ):
        assert len(line) <= 88, f"{path}:{number}: {len(line)} characters"
    for name, function in functions(tree(path)):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= 40, f"{path}:{function.lineno}: {name} has {length} lines"


@pytest.mark.parametrize("path", MODULES)
def test_constructors_do_not_print(path: str) -> None:
    for name, function in functions(tree(path)):
        if name.split(".")[-1] not in ("__init__", "__post_init__"):
            continue
        for node in ast.walk(function):
            printing = isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
            assert not printing, f"{path}:{node.lineno}: {name} prints"


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "extracted" / "py.typed").is_file()
    assert inspect.getdoc(__import__("extracted"))
