"""The work directory: made for one set of flags, continued only with the same."""

import contextlib
import json
import os
import platform
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not on Windows: there, one writer is the user's to see to
    fcntl = None  # type: ignore[assignment]

from lth_flax.analysis.blocks import read_provenance
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.files import is_stranger, make_directory, remove_temporaries, write_text_atomic
from lth_flax.flagfile import FLAGS_FILE, MACHINE_FLAGS, differences, lines_by_name
from lth_flax.identity import PARTS, Identity, is_identity, what_differs
from lth_flax.ignored import unused
from lth_flax.runs.results import Method


def directory_of(config: Config, method: Method) -> Path:
    """Where a command leaves what it finds."""
    return Path(config.work_dir or f"runs/{method.experiment}_{config.text('dataset')}")


def open_work_dir(
    path: str | os.PathLike[str], command: str, config: Config, *, same_flags: bool = True
) -> Path:
    """The directory for this run, made if need be.

    With `same_flags` off, one made by this command with other flags is taken too,
    and its flags become those of this run.

    Raises:
      UserError: it was made by another command or with other flags (it names
        them), holds something else, or cannot be made. Nothing is written then.
    """
    directory = Path(path)
    file = directory / FLAGS_FILE
    text = _flags_text(command, config)
    try:
        if directory.exists() and not directory.is_dir():
            raise UserError(f"--work_dir={path} is a file: give a directory")
        there = directory.iterdir() if directory.is_dir() else ()
        if not file.exists() and not all(map(is_stranger, there)):
            raise UserError(
                f"--work_dir={path} is not empty and holds no {FLAGS_FILE}: "
                "give a new directory, or one that a run was started in"
            )
        if file.exists():
            _check_same(path, file.read_text(encoding="utf-8"), text, same_flags)
            return directory
        make_directory(directory)
        write_text_atomic(file, text)
    except OSError as error:
        raise UserError(
            f"--work_dir={path} cannot be used ({error.strerror}): give a directory to write in"
        ) from None
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8: give another --work_dir") from None
    return directory


def write_flags(directory: Path, command: str, config: Config) -> None:
    """Puts the flags of now in place of those that are there: for one who adds to a directory."""
    write_text_atomic(directory / FLAGS_FILE, _flags_text(command, config))


def _flags_text(command: str, config: Config) -> str:
    mine = config.lines()
    for name in unused(config, command.rpartition(".")[2]):  # would be refused when it is replayed
        mine.pop(name, None)
    return "\n".join([f"# python -m {command}", *(mine[name] for name in sorted(mine))]) + "\n"


def _check_same(path: str | os.PathLike[str], before: str, now: str, same_flags: bool) -> None:
    first, second = before.partition("\n")[0], now.partition("\n")[0]
    if first != second:
        raise UserError(
            f"--work_dir={path} was made by '{first.lstrip('# ')}': give another directory"
        )
    if not same_flags:
        return
    old, new = lines_by_name(before), lines_by_name(now)
    differing = [
        f"--{name} ({there} there, {here} now)"
        for name, there, here in differences(old, new, apart_from=MACHINE_FLAGS)
    ]
    if differing:
        raise UserError(
            f"--work_dir={path} was made with other flags: {'; '.join(differing)}; "
            "give another directory, or the same flags to continue"
        )


def check_identity(
    directory: Path,
    before: Mapping[str, Any] | None,
    now: Identity,
    parts: Collection[str] = PARTS,
) -> None:
    """Raises `UserError`, naming what differs, where a directory comes from something else.

    `before` is its provenance. Where nothing can be read of that there is no
    answer yet, and nothing that training would go on from.
    """
    if not before:
        return
    there = before.get("identity")
    if not is_identity(there):
        raise UserError(
            f"--work_dir={directory} does not say what code, versions and numeric settings made "
            "it, as an older lth_flax did not: give another directory; "
            f"python -m lth_flax.analysis.report {directory} still reads this one"
        )
    differing = what_differs(there, now, parts=parts, words=("there", "now"))
    if differing:
        raise UserError(
            f"--work_dir={directory} was made with other {'; '.join(differing)}: give another "
            "directory, or what it was made with to continue"
        )


LOCK_FILE = "lock"


def lock_work_dir(directory: Path) -> IO[str]:
    """Makes this process the only writer, until it ends, however it ends.

    The lock is the operating system's, on an open file: a dead process holds none.

    Raises:
      UserError: another process is writing there, or there can be no lock.
    """
    try:
        # Held while we run. What another process wrote there may be anything.
        file = open(directory / LOCK_FILE, "a+", encoding="utf-8", errors="replace")  # noqa: SIM115
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.seek(0)
            file.truncate()
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
    except BlockingIOError:
        file.seek(0)
        holder = " ".join(file.read(200).split()) or "another process"
        file.close()
        raise UserError(
            f"--work_dir={directory} is in use by {holder}: wait for it, or give another directory"
        ) from None
    except OSError as error:
        raise UserError(
            f"--work_dir={directory} cannot be used ({LOCK_FILE}: {error.strerror}): give a "
            "directory to write in"
        ) from None
    return file


def enter_work_dir(
    held: contextlib.ExitStack,
    directory: Path,
    command: str,
    config: Config,
    identity: Identity,
    *,
    parts: Collection[str] = PARTS,
    same_flags: bool = True,
) -> dict[str, Any] | None:
    """Opens a directory, and makes this process its only writer until `held` is closed.

    Returns:
      its provenance, if there is one: of a run with the same `parts` of the identity.

    Raises:
      UserError: as the functions above.
    """
    open_work_dir(directory, command, config, same_flags=same_flags)
    held.enter_context(lock_work_dir(directory))
    remove_temporaries(directory)
    before = read_provenance(directory)
    check_identity(directory, before, identity, parts)
    return before


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Sorted, strict JSON, written atomically."""
    write_text_atomic(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")
