"""Names that code binds and misses, checked against what Python itself does."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bookbuild.names import Binding, bindings, undefined

SOURCES = [
    "x = 1",
    "a, (b, *c) = 1, (2, 3)",
    "x: int = 1",
    "def f(): local = 1",
    "class C: attribute = 1",
    "import os, os.path as p",
    "import os.path",
    "from os import path as p, sep",
    "from __future__ import annotations",
    "squares = [i for i in range(3) if (last := i) >= 0]",
    "table = {k: v for k, v in {}.items()}; total = sum(n for n in [1])",
    "f = lambda x, y=(z := 1): x",
    "for i, j in []: pass\nelse: done = 1",
    "while (n := 0): pass",
    "with open('/dev/null') as file: line = 1",
    "try: x = 1\nexcept ValueError as error: y = 1\nfinally: z = 1",
    "if True: x = 1\nelse: y = 1",
    "match [1, 2, 3]:\n    case [first, *rest]: found = 1",
    "match {'k': 1, 'm': 2}:\n    case {'k': value, **others}: found = 1",
    "match 3:\n    case int() as number: pass\n    case _: pass",
    "x = []\nx[0:0] = [1]\nx.__class__",
]


@pytest.mark.parametrize("source", SOURCES)
def test_bindings_are_what_a_run_can_bind(source: str) -> None:
    before = {"__builtins__": __builtins__}
    after = dict(before)
    exec(compile(source, "", "exec"), after)
    ran = {name for name in after if name not in before and name != "annotations"}
    ran -= {"__annotations__"}
    found = {binding.name for binding in bindings(ast.parse(source))}
    assert ran <= found
    never_run = {"i", "j", "y"} if "for i, j" in source or "y = 1" in source else set()
    assert found - ran <= never_run


def test_bindings_carry_lines_and_origins() -> None:
    tree = ast.parse("import numpy as np\nfrom a.b import c\n\n@d\ndef f(): ...\n")
    assert bindings(tree) == [
        Binding("np", 1, "import numpy"),
        Binding("c", 2, "from a.b import c"),
        Binding("f", 5),
    ]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("if True:\n    x = 1\nelse:\n    x = 2", ["x"]),
        ("x = 1\nx = 2", ["x", "x"]),
        ("x = 1\nx += 1", ["x"]),
        ("_ = 1", []),
        (
            "@overload\ndef f(a: int): ...\n@overload\ndef f(a): ...\ndef f(a): ...",
            ["f"],
        ),
        ("@typing.overload\ndef f(a: int): ...\ndef f(a): ...", ["f"]),
    ],
)
def test_a_name_counts_once_a_statement(source: str, names: list[str]) -> None:
    assert [binding.name for binding in bindings(ast.parse(source))] == names


@pytest.mark.parametrize(
    "source",
    [
        "import math\ndef f(x): return math.pi * x",
        "def f(): return g()\ndef g(): return 1",
        "class A:\n    x = 1\n    y = x\n    def m(self): super(), __class__",
        "class A:\n    name = __qualname__ + __module__",
        "def f():\n    global made\n    made = 1\ndef g(): return made",
        "print(__name__, __file__, __doc__, [i for i in range(3)])",
        "def f(x):\n    def g(): return x\n    return g",
        "def f():\n    try: pass\n    except OSError as e: print(e)",
        "x: 'Unknown' = 1",
        "from typing import TypeVar\nT = TypeVar('T')\ndef f(x: T) -> T: return x",
    ],
)
def test_nothing_is_missing(source: str) -> None:
    assert undefined(source) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = y", [Binding("y", 1)]),
        ("def f():\n    return (\n        helper()\n    )", [Binding("helper", 3)]),
        ("class A(Base):\n    pass", [Binding("Base", 1)]),
        ("import os\n\ndef f(x: Tensor): return os", [Binding("Tensor", 3)]),
        ("def f():\n    return [g(i) for i in x]", [Binding("g", 2), Binding("x", 2)]),
        ("@decorator\ndef f(): pass", [Binding("decorator", 1)]),
        ("missing += 1\nprint(other)", [Binding("other", 2)]),
    ],
)
def test_what_is_missing_is_found_at_its_line(
    source: str, expected: list[Binding]
) -> None:
    assert sorted(undefined(source), key=str) == sorted(expected, key=str)


NAMES = st.sampled_from(["a", "b", "c", "d", "e"])


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=6))
def test_a_module_without_missing_names_never_raises_name_error(
    pairs: list[tuple[str, str]],
) -> None:
    source = "\n".join(f"def {name}(): return {used}" for name, used in pairs)
    space: dict[str, object] = {}
    exec(source, space)
    really = set()
    for name, used in dict(pairs).items():
        try:
            space[name]()  # type: ignore[operator]
        except NameError:
            really.add(used)
    assert {binding.name for binding in undefined(source)} >= really
    defined = {name for name, _ in pairs}
    assert {b.name for b in undefined(source)} == {u for _, u in pairs} - defined
