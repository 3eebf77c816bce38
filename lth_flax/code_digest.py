"""Digests of what code computes: its syntax trees, without docstrings, comments and layout.

They are of the source that Python writes for such a tree, so that a field that a
later Python adds to trees changes nothing.
"""

import ast
import contextlib
import functools
import hashlib
import importlib.util
import inspect
import os
import sysconfig
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

Reader = Callable[[str], str | None]
"""Name of a module -> its source, or None where there is no such module."""


def module_digests(
    roots: Iterable[str], *, apart_from: Iterable[str] = (), read: Reader | None = None
) -> dict[str, str]:
    """Digests of modules and of all that they import from their own package, by name.

    Imports are read off the source, those inside functions included. The
    `__init__` of the whole package is left out: it is names of others.

    Args:
      roots: names of modules, "package.module".
      apart_from: modules, or packages with all in them, that are not followed.
      read: where sources come from; by default from where they are installed.

    Returns:
      16 hexadecimal digits for each module.
    """
    read = read or source_of
    left_out = tuple(f"{name}." for name in apart_from)
    found: dict[str, str] = {}
    waiting, seen = list(roots), set()
    while waiting:
        name = waiting.pop()
        if name in seen or "." not in name or f"{name}.".startswith(left_out):
            continue
        seen.add(name)
        source = read(name)
        if source is None:  # a function or a class of the module before the last dot
            continue
        tree = ast.parse(source)
        found[name] = tree_digest(tree)[:16]
        package = name.partition(".")[0]
        for imported in _imports(tree):
            if imported.startswith(f"{package}."):
                waiting += [imported, imported.rpartition(".")[0]]
    return dict(sorted(found.items()))


def source_of(name: str) -> str | None:
    """The source of an installed module; None where there is no such module."""
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # its parent is no package
        return None
    if spec is None:
        return None
    if spec.origin and spec.origin.endswith(".py") and os.path.exists(spec.origin):
        with open(spec.origin, "rb") as file:
            return importlib.util.decode_source(file.read())
    source: str | None = getattr(spec.loader, "get_source", lambda _: None)(name)  # in an archive
    return source


def tree_digest(tree: ast.AST) -> str:
    """sha256, hexadecimal."""
    return _sha256([_plain(tree)])


def function_digest(function: Callable[..., Any]) -> str | None:
    """Of a function's source and of the values that it refers to; None where it has no source.

    Values are the defaults, what a closure holds, and the globals that it
    names: numbers, texts, arrays and containers of them by what they are, other
    functions by their own digests. What is installed counts by its name.
    """
    words: list[str] = []
    try:
        _add_function(function, words.append, set())
    except (OSError, TypeError, SyntaxError):
        return None
    return _sha256(words)


def _sha256(words: Iterable[str]) -> str:
    return hashlib.sha256(" ".join(words).encode("utf-8", errors="surrogatepass")).hexdigest()


def _plain(tree: ast.AST) -> str:
    """What a tree computes, as source text; takes documentation out of the tree."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            if isinstance(value, list):
                setattr(node, name, [item for item in value if not _is_documentation(item)])
        if isinstance(node, ast.Constant):
            node.kind = None  # u"x" is "x"
    return ast.unparse(tree)


def _is_documentation(node: Any) -> bool:
    """A text that stands alone: nothing is done with it."""
    value = getattr(node, "value", None)
    return (
        isinstance(node, ast.Expr)
        and isinstance(value, ast.Constant)
        and isinstance(value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _add_function(function: Any, add: Callable[[str], None], seen: set[int]) -> None:
    if id(function) in seen:
        return
    seen.add(id(function))
    if isinstance(function, functools.partial):
        add("partial")
        _add_value([function.func, function.args, function.keywords], add, seen)
        return
    function = inspect.unwrap(function)
    if inspect.ismethod(function):
        function = function.__func__
    if not inspect.isfunction(function):
        raise TypeError(f"{function!r} has no source")
    for tree in _trees_of(function):
        add(_plain(tree))
    _add_value([function.__defaults__, function.__kwdefaults__, _named_by(function)], add, seen)


def _named_by(function: types.FunctionType) -> dict[str, Any]:
    """The globals that a function, or one inside of it, names, and what its closure holds."""
    codes, names = [function.__code__], set()
    for code in codes:
        names |= set(code.co_names)
        codes += [inner for inner in code.co_consts if isinstance(inner, types.CodeType)]
    found = {name: function.__globals__[name] for name in names & function.__globals__.keys()}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not set yet
            found[name] = cell.cell_contents
    return dict(sorted(found.items()))


def _is_installed(function: types.FunctionType) -> bool:
    """Whether a function belongs to Python or to an installed package: versions speak for it."""
    file = os.path.realpath(function.__code__.co_filename)
    places = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
    return any(file.startswith(os.path.realpath(place) + os.sep) for place in places)


def _trees_of(function: types.FunctionType) -> list[ast.AST]:
    """The tree of a function, found by its line in the source around it.

    Several lambdas of one line cannot be told apart: together they stand for each.
    """
    lines, _ = inspect.findsource(function)
    line = function.__code__.co_firstlineno
    is_lambda = function.__name__ == "<lambda>"
    kinds = (ast.Lambda,) if is_lambda else (ast.FunctionDef, ast.AsyncFunctionDef)
    found: list[ast.AST] = []
    for node in ast.walk(ast.parse("".join(lines))):
        if isinstance(node, kinds):
            decorators = getattr(node, "decorator_list", [])
            if min([node.lineno, *(one.lineno for one in decorators)]) == line:
                found.append(node)
    if not found:
        raise OSError(f"no source of {function.__qualname__}")
    return found


def _add_value(value: Any, add: Callable[[str], None], seen: set[int]) -> None:
    """Of what a function refers to."""
    if isinstance(value, Mapping):
        add("{")
        for key, item in value.items():
            add(repr(key))
            _add_value(item, add, seen)
        add("}")
    elif isinstance(value, list | tuple):
        add("[")
        for item in value:
            _add_value(item, add, seen)
        add("]")
    elif isinstance(value, bool | int | float | complex | str | bytes | np.generic | None):
        add(f"{type(value).__name__}:{value!r}")
    elif isinstance(value, functools.partial) or (
        inspect.isfunction(value) and not _is_installed(value)
    ):
        _add_function(value, add, seen)
    elif isinstance(value, np.ndarray | jax.Array):
        is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        array = np.asarray(jax.random.key_data(value) if is_key else value)
        add(f"{array.dtype}{array.shape}{hashlib.sha256(array.tobytes()).hexdigest()}")
    else:
        add(str(getattr(value, "__qualname__", type(value).__qualname__)))
