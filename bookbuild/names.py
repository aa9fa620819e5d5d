"""What a piece of Python defines, imports and leaves undefined, by its syntax."""

import ast
import builtins
import symtable
from collections.abc import Iterator
from dataclasses import dataclass

MODULE_NAMES = frozenset(dir(builtins)) | {
    "__annotations__",
    "__file__",
    "__module__",
    "__name__",
    "__qualname__",
}
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Binding:
    """A name bound at module level; `what` is the import that binds it, or empty."""

    name: str
    line: int
    what: str = ""


def bindings(tree: ast.Module) -> list[Binding]:
    """The names that each top-level statement binds, once a statement.

    Both branches of an `if` may define one name; that counts as one definition.
    """
    found: list[Binding] = []
    for statement in tree.body:
        seen: set[str] = set()
        for binding in _bound(statement):
            if binding.name not in seen and binding.name != "_":
                seen.add(binding.name)
                found.append(binding)
    return found


def _bound(node: ast.AST) -> Iterator[Binding]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        if not any(_is_overload(decorator) for decorator in node.decorator_list):
            yield Binding(node.name, node.lineno)
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        yield from _imported(node)
    elif isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Store):
            yield Binding(node.id, node.lineno)
    elif isinstance(node, COMPREHENSIONS):  # only `:=` reaches out of these
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                yield Binding(inner.target.id, inner.lineno)
    elif isinstance(node, ast.AugAssign):  # changes a name, does not define it
        yield from _bound(node.value)
    elif isinstance(node, ast.Lambda):  # its body binds names of its own
        yield from _bound(node.args)
    else:
        captured = getattr(node, "name", getattr(node, "rest", None))
        if captured and isinstance(
            node, (ast.MatchAs, ast.MatchStar, ast.MatchMapping)
        ):
            yield Binding(captured, node.lineno)
        for child in ast.iter_child_nodes(node):
            yield from _bound(child)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[Binding]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or alias.name.split(".")[0]
            target = alias.name if alias.asname else name
            yield Binding(name, node.lineno, f"import {target}")
        return
    origin = "." * node.level + (node.module or "")
    for alias in node.names:
        what = f"from {origin} import {alias.name}"
        if origin != "__future__":
            yield Binding(alias.asname or alias.name, node.lineno, what)


def _is_overload(decorator: ast.expr) -> bool:
    name: str = getattr(decorator, "attr", getattr(decorator, "id", ""))
    return name == "overload"


def undefined(source: str) -> list[Binding]:
    """Names that a module uses and neither defines, imports nor finds built in.

    Raises `SyntaxError`.
    """
    tree = ast.parse(source)
    compile(tree, "module", "exec", dont_inherit=True)
    top = symtable.symtable(source, "module", "exec")
    known = {
        symbol.get_name()
        for symbol in top.get_symbols()
        if symbol.is_assigned() or symbol.is_imported()
    }
    known |= {name for table in _tables(top) for name in _declared_global(table)}
    known |= MODULE_NAMES
    missing: dict[str, int] = {}
    for table in _tables(top):
        for symbol in table.get_symbols():
            name = symbol.get_name()
            outside = table is top or symbol.is_global()
            if symbol.is_referenced() and outside and name not in known:
                missing.setdefault(name, table.get_lineno())
    return [Binding(name, _use(tree, name, line)) for name, line in missing.items()]


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _declared_global(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_declared_global() and symbol.is_assigned():
            yield symbol.get_name()


def _use(tree: ast.Module, name: str, line: int) -> int:
    """The first line, from `line` on, that reads `name`."""
    uses = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and node.lineno >= line
    ]
    return min(uses, default=line)
