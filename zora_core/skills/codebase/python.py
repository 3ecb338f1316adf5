"""What one walk over the syntax tree of a Python file tells: its functions, imports, definitions and names used."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import cast

from zora_core.skills.codebase.inventory import SourceFile
from zora_core.threads import PARSING

_BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension)
_DECIDING = {*_BRANCHES, ast.BoolOp, ast.match_case}
_NAMING = {ast.Name, ast.Attribute, ast.ImportFrom, ast.keyword, ast.Constant}
_CHILDLESS = {ast.Name, ast.Constant}
_LEAVES = {ast.Load, ast.Store, ast.Del, *ast.operator.__subclasses__(), *ast.unaryop.__subclasses__()}
_JUMPS = (ast.Return, ast.Raise, ast.Continue, ast.Break)

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Function:
    """A function with its cyclomatic complexity (decision points + 1, `and` and `or` counted) and length in lines."""

    path: str
    name: str
    line: int
    complexity: int
    length: int


@dataclass(frozen=True)
class Import:
    """A module that is imported while this one loads; `names` are those of a `from` import, `level` its dots."""

    module: str
    names: tuple[str, ...]
    level: int
    line: int


@dataclass(frozen=True)
class Defined:
    """A function or class: `owner` is the class of a method, `bare` says that it has neither decorators nor bases."""

    name: str
    owner: str
    line: int
    bare: bool
    is_class: bool


@dataclass
class Module:
    """The facts of one Python file. The tree itself is not kept: collecting garbage around many trees is slow."""

    file: SourceFile
    functions: list[Function] = field(default_factory=list)
    imports: list[Import] = field(default_factory=list)
    defined: list[Defined] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    unreachable: list[int] = field(default_factory=list)


def read_modules(files: Iterable[SourceFile]) -> tuple[list[Module], list[str]]:
    """The facts of each file that parses, and the paths of those that do not (ruff says what is wrong with them)."""
    modules, broken = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            try:
                with PARSING:
                    tree = ast.parse(file.text)
            except (SyntaxError, ValueError, RecursionError, MemoryError):
                broken.append(file.path)
                continue
            modules.append(_facts(file, tree))
    return modules, broken


@dataclass
class _Scope:
    """Where the walk is: the qualified name, the innermost function (or None), and whether this runs at import."""

    qualified: str
    function: _Measured | None
    loading: bool


@dataclass
class _Measured:
    name: str
    line: int
    last: int
    complexity: int = 1


def _facts(file: SourceFile, tree: ast.Module) -> Module:
    module = Module(file)
    measured: list[_Measured] = []
    stack: list[tuple[ast.AST, _Scope]] = [(tree, _Scope("", None, True))]
    while stack:
        node, scope = stack.pop()
        kind = type(node)
        if kind in _NAMING:
            _add_names(node, module.used)
            if kind in _CHILDLESS:
                continue
        elif kind in _DECIDING:
            if scope.function is not None:
                scope.function.complexity += _decisions(node)
            if kind is ast.If and _is_type_checking(cast(ast.If, node).test):
                stack.extend((child, scope) for child in cast(ast.If, node).orelse)
                scope = replace(scope, loading=False)
                stack.extend((child, scope) for child in cast(ast.If, node).body)
                continue
        elif isinstance(node, _DEFINITIONS):
            if scope.function is None:
                module.defined.append(_defined(node, scope.qualified))
            name = f"{scope.qualified}.{node.name}" if scope.qualified else node.name
            if isinstance(node, ast.ClassDef):
                scope = replace(scope, qualified=name)
            else:
                function = _Measured(name, node.lineno, node.end_lineno or node.lineno)
                measured.append(function)
                scope = _Scope(name, function, False)
        elif kind is ast.Lambda:
            scope = replace(scope, loading=False)
        if scope.loading and isinstance(node, (ast.Import, ast.ImportFrom)):
            module.imports.extend(_imports(node))
        for field_name in node._fields:
            value = getattr(node, field_name, None)
            if isinstance(value, list):
                if value and isinstance(value[0], ast.stmt):
                    module.unreachable.extend(_after_jump(value))
                stack.extend([(child, scope) for child in value if isinstance(child, ast.AST)])
            elif isinstance(value, ast.AST) and type(value) not in _LEAVES:
                stack.append((value, scope))
    module.functions = [Function(file.path, m.name, m.line, m.complexity, m.last - m.line + 1) for m in measured]
    module.functions.sort(key=lambda f: f.line)
    module.imports.sort(key=lambda i: i.line)
    module.defined.sort(key=lambda d: d.line)
    module.unreachable.sort()
    return module


def _decisions(node: ast.AST) -> int:
    if isinstance(node, _BRANCHES):
        return 1 + (len(node.ifs) if isinstance(node, ast.comprehension) else 0)
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.match_case):
        return 1
    return 0


def _add_names(node: ast.AST, used: set[str]) -> None:
    if isinstance(node, ast.Name):
        if isinstance(node.ctx, ast.Load):
            used.add(node.id)
    elif isinstance(node, ast.Attribute):
        used.add(node.attr)
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, str) and len(node.value) < 200:
            used.update(part for part in node.value.replace(":", ".").split(".") if part.isidentifier())
    elif isinstance(node, ast.keyword):
        if node.arg is not None:
            used.add(node.arg)
    elif isinstance(node, ast.ImportFrom):
        used.update(alias.name for alias in node.names)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, (), 0, node.lineno)
    else:
        yield Import(node.module or "", tuple(alias.name for alias in node.names), node.level, node.lineno)


def _defined(node: Definition, owner: str) -> Defined:
    is_class = isinstance(node, ast.ClassDef)
    bare = not node.decorator_list and not (isinstance(node, ast.ClassDef) and (node.bases or node.keywords))
    return Defined(node.name, owner, node.lineno, bare, is_class)


def _after_jump(body: list[ast.stmt]) -> Iterator[int]:
    """The line after a `return`, `raise`, `continue` or `break`, unless it is the `yield` that makes a generator."""
    for before, after in pairwise(body):
        is_yield = isinstance(after, ast.Expr) and isinstance(after.value, (ast.Yield, ast.YieldFrom))
        if isinstance(before, _JUMPS) and not is_yield:
            yield after.lineno
            return


def _is_type_checking(test: ast.expr) -> bool:
    match test:
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return True
    return False
