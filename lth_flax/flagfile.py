"""Files of flags, one a line: those that are given, and the `flags.txt` of a run."""

import codecs
from collections.abc import Collection, Mapping, Sequence

from lth_flax.config import names_of
from lth_flax.errors import UserError
from lth_flax.files import open_plain
from lth_flax.settings import home_expanded

MOST_FLAGFILE_BYTES = 1 << 20

FLAGS_FILE = "flags.txt"

MACHINE_FLAGS = names_of("machine")
"""Flags that say where and how a run works, not what it finds: they may differ
when a run is continued. Data is compared by its fingerprint instead."""

SEED_FLAGS = names_of("seeds")


def lines_by_name(text: str) -> dict[str, str]:
    """The lines of every flag; several lines where it was given several times.

    No flag of ours has a name that begins with "no": `--nox` is x, switched off.
    """
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("--"):
            name = line[2:].partition("=")[0]
            if "=" not in line and name.startswith("no"):
                name = name[2:]
            found[name] = f"{found[name]}\n{line}" if name in found else line
    return found


def value_of(line: str | None) -> str:
    """What stands in the lines of a flag; `--x` is true and `--nox` false."""
    if line is None:
        return "unset"
    values = []
    for one in line.splitlines():
        name, equals, value = one[2:].partition("=")
        values.append(value if equals else "false" if name.startswith("no") else "true")
    return " ".join(values)


def differences(
    one: Mapping[str, str], other: Mapping[str, str], *, apart_from: Collection[str]
) -> list[tuple[str, str, str]]:
    """(name, value, other value) of the flags that differ, given their lines by name."""
    pairs = (
        (name, value_of(one.get(name)), value_of(other.get(name)))
        for name in sorted(one.keys() | other.keys())
        if name not in apart_from
    )
    return [(name, a, b) for name, a, b in pairs if a != b]


def with_flagfiles(arguments: Sequence[str], *, inside: tuple[str, ...] = ()) -> list[str]:
    """The arguments of a command line, with the lines of each --flagfile in its place.

    Blank lines, and those that begin with # or //, are left out. A flagfile may name
    others; `inside` are those that it is named in.

    Raises:
      UserError: one cannot be read, or names itself.
    """
    found = []
    waiting = iter(arguments)
    for argument in waiting:
        name, equals, path = argument.lstrip("-").partition("=")
        if name != "flagfile" or not argument.startswith("-"):
            found.append(argument)
            continue
        path = home_expanded(path if equals else next(waiting, ""))
        if path in inside:
            raise UserError(f"flagfile {path} names itself: take that line out")
        lines = (line.strip() for line in _read_flagfile(path).splitlines())
        flags = [line for line in lines if line and not line.startswith(("#", "//"))]
        found += with_flagfiles(flags, inside=(*inside, path))
    return found


def _read_flagfile(path: str) -> str:
    with open_plain(path, "a flagfile, with a flag per line") as file:
        content = file.read(MOST_FLAGFILE_BYTES + 1)
    if len(content) > MOST_FLAGFILE_BYTES:
        raise UserError(f"{path} is no flagfile: expected at most {MOST_FLAGFILE_BYTES} bytes")
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8; save the flagfile as UTF-8 text"
        ) from None
