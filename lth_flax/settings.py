"""What is known of one setting, and how its values are read and written."""

import dataclasses
import functools
import importlib
import math
import operator
import os
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from lth_flax.errors import UserError

Role = Literal["machine", "seeds", "source", "task", "training"]
"""What a setting is to a run.

machine: where and how it works, not what it finds; may differ when a run is continued.
seeds: which seeds; blocks of them merge.
source: which texts of a dataset are read, but not where on this machine it is.
task: what is trained on what; training: how. Both stand in records and tickets.
"""

LARGEST = 2**31 - 2
"""Of whole numbers: they and the next one fit 32 bits."""

DECIMAL_COMMA = re.compile(r"(^|,)\s*-?\d*,\d")
DECIMAL_POINT = "decimals have a point: 0.5, not 0,5"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is known of one setting, and how its values are read and written.

    kind: of one value; `many`: the value is a tuple of them.
    low, high: bounds, inclusive; `above` is a low one that is none of the values.
    choices: names, or "module:TABLE" whose keys they are.
    grid: several values make a grid of configurations; each stands once.
    zero: the word for 0, where it has one.
    repeated: the flag is given once per value, which may hold commas.
    open: a function, or the text "module:function", stands for one that is not in the table.
    other: what other names stand for, if any may be given.
    path: of a file or directory; `~` is the home directory.
    """

    name: str
    group: type
    kind: type
    many: bool
    optional: bool
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: str | tuple[str, ...] | None = None
    grid: bool = False
    zero: str | None = None
    repeated: bool = False
    open: bool = False
    other: str | None = None
    path: bool = False
    role: Role | None = None

    def read(self, value: Any) -> Any:
        """A value of this setting, from the text of a flag or from Python.

        Raises:
          ValueError: it is none; says what was expected.
        """
        if value is None and self.optional:
            return None
        try:
            return self._read(value)
        except ValueError as error:
            if self.kind is float and isinstance(value, str) and DECIMAL_COMMA.search(value):
                raise ValueError(f"{error}; {DECIMAL_POINT}") from None
            raise

    def _read(self, value: Any) -> Any:
        if not self.many:
            return self._one(value)
        if isinstance(value, str):
            value = (value,) if self.repeated else value.split(",") if value else ()
        elif not isinstance(value, Iterable) or getattr(value, "ndim", 1) == 0:
            value = (value,)
        values = tuple(self._one(one) for one in value)
        if self.grid and (not values or len(set(values)) < len(values)):
            raise ValueError(f"expected {self.expected}, each once")
        return values

    def text(self, value: Any) -> str:
        """How a flag says this value."""
        if self.many:
            return ",".join(map(_name, value))
        if callable(value):
            return _name(value)
        if isinstance(value, bool):
            return str(value).lower()
        return self.zero if self.zero and value == 0 else str(value)

    def line(self, value: Any) -> str:
        """The line of a flagfile; one per value where it is repeated."""
        if isinstance(value, bool):
            return f"--{self.name}" if value else f"--no{self.name}"
        if self.repeated:
            return "\n".join(f"--{self.name}={one}" for one in value)
        return f"--{self.name}={self.text(value)}"

    def function(self, value: Any) -> Any:
        """What a name of the table, "module:function" or a function itself stands for."""
        if callable(value):
            return value
        is_reference = _REFERENCE.fullmatch(value)
        module, _, name = str(value if is_reference else self.choices).partition(":")
        found = getattr(importlib.import_module(module), name)
        return found if is_reference else found[value]

    def is_other(self, value: Any) -> bool:
        """Whether it is none of the choices, nor a function or the name of one."""
        is_text = not callable(value) and not _REFERENCE.fullmatch(value)
        return is_text and value not in (self.names or ())

    @property
    def names(self) -> tuple[str, ...] | None:
        """The choices, if there are any."""
        if not isinstance(self.choices, str):
            return self.choices
        module, _, table = self.choices.partition(":")
        return tuple(getattr(importlib.import_module(module), table))

    @property
    def of(self) -> str:
        """How many of the choices a value has."""
        return "one or more of" if self.many else "one of"

    @property
    def expected(self) -> str:
        """What a value has to be, in words."""
        if self.names:
            more = ", or module:function (in Python a function)" if self.open else ""
            more += f", or {self.other}" if self.other else ""
            return f"{self.of} {', '.join(self.names)}{more}"
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one line of UTF-8 text"
        noun = "whole number" if self.kind is int else "finite number"
        noun = f"one or more {noun}s" if self.grid else f"a list of {noun}s" if self.many else noun
        bounds = ""
        if self.low is not None and self.high is not None:
            bounds = f" from {self.low:g} to {self.high:g}"
        elif self.low is not None:
            bounds = f" from {self.low:g}"
        elif self.above is not None:
            bounds = f" above {self.above:g}"
            bounds += "" if self.high is None else f" and up to {self.high:g}"
        word = f"{self.zero}, or " if self.zero else ""
        example = f", such as {'1,2' if self.kind is int else '0.001,0.003'}" if self.grid else ""
        article = "" if self.many else "a "
        return f"{word}{article}{noun}{bounds}{example}"

    def _one(self, value: Any) -> Any:
        if self.open and callable(value):
            return value
        reader = {bool: _bool, int: _int, float: _float, str: _str}[self.kind]
        try:
            value = 0 if self.zero and value == self.zero else reader(value)
            low = -math.inf if self.low is None else self.low
            if self.kind in (int, float) and not low <= value <= (self.high or math.inf):
                raise ValueError
            if self.above is not None and not value > self.above:
                raise ValueError
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"expected {self.expected}") from None
        if self.path:
            return home_expanded(value)
        if self.open and _REFERENCE.fullmatch(value):
            return self._imported(value)
        if self.names and value not in self.names and not self.other:
            raise ValueError(f"expected {self.expected}")
        return value

    def _imported(self, value: str) -> str:
        try:
            found = self.function(value)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"cannot import {value} ({error}); expected {self.expected}") from None
        if not callable(found):
            raise ValueError(f"{value} is no function; expected {self.expected}")
        return value


def home_expanded(path: str) -> str:
    """The path with `~` as the home directory.

    Raises:
      UserError: there is none; a folder called `~` would be made.
    """
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise UserError(f"{path}: no home directory is known here; give the path without ~")
    return found


_REFERENCE = re.compile(r"[\w.]+:[^\W\d]\w*")
"""Module and function; versions of TFDS sets follow a colon too, and begin with a digit."""


def _name(value: Any) -> str:
    return f"{value.__module__}:{value.__qualname__}" if callable(value) else str(value)


def own_name(value: Any) -> str:
    """What a function is called in records, or one that a text names: "reinit"."""
    return str(getattr(value, "__name__", value)).rpartition(":")[2]


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        value = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}.get(
            value.lower()
        )
    if not isinstance(value, bool):
        raise ValueError
    return value


def _int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    return int(value) if isinstance(value, str) else operator.index(value)


def _float(value: Any) -> float:
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError
    return float(value)


def _str(value: Any) -> str:
    text = os.fspath(value)
    text.encode("utf-8")  # raises for bytes of a command line that are not UTF-8
    if "\0" in text or text.splitlines() not in ([text], []):
        raise ValueError
    return text


def described(default: Any, help: str, *, role: Role | None = None, **details: Any) -> Any:
    """A field of a group, with what `Setting` says of it."""
    metadata = {"help": help, "role": role, **details}
    return dataclasses.field(default=default, metadata=metadata)


@functools.cache
def settings_of(config: type) -> Mapping[str, Setting]:
    """Name -> setting, group after group."""
    found = {}
    # The groups that a command's own one adds to come first.
    for group in filter(dataclasses.is_dataclass, (*config.__mro__[1:], config)):
        hints = typing.get_type_hints(group)
        for field in dataclasses.fields(group):
            if field.name in group.__annotations__ and field.metadata:
                kind, many, optional = _kind(hints[field.name])
                details = {"high": LARGEST if kind is int else None, **field.metadata}
                found[field.name] = Setting(
                    field.name, group, kind, many, optional, field.default, **details
                )
    return types.MappingProxyType(found)


def _kind(hint: Any) -> tuple[type, bool, bool]:
    """`tuple[int, ...] | None` -> (int, True, True)."""
    optional = isinstance(hint, types.UnionType)
    if optional:
        hint = typing.get_args(hint)[0]
    many = typing.get_origin(hint) is tuple
    return (typing.get_args(hint)[0] if many else hint), many, optional
