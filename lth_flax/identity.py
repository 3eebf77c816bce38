"""What a result comes from, besides its settings: data, files, versions, numerics, code.

An identity is a dict of named parts, all JSON: two runs with equal settings and
equal identities lead to the same bits on the same machine. Of what differs
between two, one line says the name.
"""

import functools
import hashlib
import importlib.metadata
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeGuard

from lth_flax import numerics
from lth_flax.code_digest import function_digest, module_digests
from lth_flax.errors import UserError
from lth_flax.files import open_plain

Identity = Mapping[str, Mapping[str, str]]
"""Part -> name -> digest or value. The parts are `PARTS`; one that is not there is not compared."""

PARTS = ("data", "files", "versions", "numerics", "code")

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "scipy")
"""What training computes with. SciPy is JAX's LAPACK on a CPU, which draws initializations."""

NOT_OF_RESULTS = tuple(
    f"lth_flax.{name}"
    for name in (
        "analysis", "benchmarks", "result", "tickets",
        "errors", "quiet", "identity", "code_digest", "cli", "config", "flagfile", "interrupt",
        "runs.platforms", "runs.progress",
    )
)  # fmt: skip
"""Modules that a result does not depend on: statistics and pages, exports, what is said."""

WORD_VECTORS = "word vectors"


def file_digest(path: str | os.PathLike[str]) -> str:
    """sha256 of a file, hexadecimal.

    Raises:
      UserError: it cannot be read.
    """
    with open_plain(path, "a file") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def identity_of(
    *,
    data: str,
    files: Mapping[str, str],
    command: str,
    functions: Iterable[Callable[..., Any]] = (),
    task: str = "",
    environment: Mapping[str, str] | None = None,
) -> dict[str, dict[str, str]]:
    """The identity of a run that is about to begin in this process.

    Args:
      data: fingerprint of the data.
      files: digests of other files that are read, by what they are.
      command: the module that trains; it and what it imports are the code.
      functions: what the run was told to use by name, such as its score: those
        from outside this package are part of its code.
      task: name and version of a task, by which functions without a source are known.
      environment: of the process that trains, if that is not this one.
    """
    return {
        "data": {"data fingerprint": data},
        "files": dict(files),
        "versions": versions(),
        "numerics": numerics.in_effect(environment),
        "code": {**package_code(command), **_own_code(functions, task)},
    }


def versions() -> dict[str, str]:
    """Of all that training computes with; tokens depend on Python's tables of characters."""
    found = {name: package_version(name) or "unknown" for name in PACKAGES}
    return {**found, "Unicode": unicodedata.unidata_version}


def package_version(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache
def package_code(command: str) -> dict[str, str]:
    """Digests of the modules that a command trains with, as they were when first asked for."""
    return module_digests([command], apart_from=NOT_OF_RESULTS)


def _own_code(functions: Iterable[Callable[..., Any]], task: str) -> dict[str, str]:
    """Digests of a user's functions by name.

    Raises:
      UserError: one has no source, and no task is named, so that nothing could tell it from
        another.
    """
    found = {"task": task} if task else {}
    for function in functions:
        module, name = (getattr(function, n, None) for n in ("__module__", "__qualname__"))
        if str(module).partition(".")[0] == "lth_flax":
            continue
        digest = function_digest(function)
        if digest is None and task:
            continue
        if digest is None:
            raise UserError(
                f"{module}.{name} has no source that could be read, so its results could not be "
                "told from others: define it in a file or a notebook cell, or give the task name= "
                "and version="
            )
        found[f"{module}.{name}"] = digest
    return found


def digest(identity: Identity, parts: Collection[str] = PARTS) -> str:
    """Twelve hexadecimal digits that stand for an identity, or for some parts of it."""
    text = repr([(part, sorted(identity.get(part, {}).items())) for part in sorted(parts)])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def is_identity(value: Any) -> TypeGuard[Identity]:
    """Whether something that was read is an identity."""
    return isinstance(value, Mapping) and all(
        isinstance(part, Mapping) and all(isinstance(item, str) for item in part.values())
        for part in value.values()
    )


def what_differs(
    one: Identity, other: Identity, *, parts: Collection[str] = PARTS, words: tuple[str, str]
) -> list[str]:
    """What differs between two, as "word vectors (12ab... there, none now)".

    `words` follow the first and the second value. A setting of JAX that only
    one of them knows belongs to a part of JAX that the other did not load.
    """
    found = []
    for part in PARTS:
        if part not in parts or part not in one or part not in other:
            continue
        first, second = one[part], other[part]
        names = first.keys() | second.keys()
        if part == "numerics":
            shared = first.keys() & second.keys()
            names = {n for n in names if n in shared or not numerics.is_option(n)}
        odd = sorted(name for name in names if first.get(name) != second.get(name))
        if part == "code" and odd:
            short = [name.removeprefix("lth_flax.") for name in odd]
            more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
            found.append(f"code ({', '.join(short[:4])}{more})")
            continue
        for name in odd:
            values = [_short(part, values.get(name)) for values in (first, second)]
            said = ", ".join(f"{v} {w}".strip() for v, w in zip(values, words, strict=True))
            found.append(f"{name} ({said})")
    return found


def _short(part: str, value: str | None) -> str:
    if value is None:
        return "none"
    return value[:12] if part in ("data", "files") else value[:60] or "empty"
