"""How every command starts and ends: flags in, one line and exit status 2 on bad input."""

import os
import stat
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

# Before anything imports TFDS or TensorFlow-like libraries: their banners are not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import app, flags, logging  # noqa: E402

from lth_flax.errors import UserError  # noqa: E402
from lth_flax.experiments import interrupt  # noqa: E402
from lth_flax.quiet import quiet_process  # noqa: E402

BAD_INPUT = 2
MOST_FLAGFILE_BYTES = 1 << 20


def run(main: Callable[[], None], defaults: dict[str, object] | None = None) -> None:
    """Runs `main` with parsed flags.

    Args:
      main: takes nothing; raises `UserError` for bad input.
      defaults: flag defaults of this command.
    """
    from lth_flax.experiments import flags as project_flags

    flags.adopt_module_key_flags(project_flags)
    for name, value in (defaults or {}).items():
        flags.FLAGS.set_default(name, value)

    def guarded(argv: Sequence[str]) -> None:
        if len(argv) > 1:
            fail(f"unexpected argument {argv[1]!r}: expected only flags, as --name=value")
        interrupt.install()
        quiet_process()
        try:
            main()
        except UserError as error:
            fail(str(error))
        except interrupt.Interrupted as stop:
            interrupt.leave(stop.signum)

    app.run(guarded, flags_parser=_parse)


def fail(message: str) -> None:
    """Ends the command: one line to stderr, exit status 2."""
    line = " ".join(message.split())
    # A class or a file may be named with what a terminal obeys.
    line = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    print(f"error: {line}", file=sys.stderr)
    raise SystemExit(BAD_INPUT)


def _parse(argv: Sequence[str]) -> list[str]:
    logging.set_verbosity(logging.ERROR)
    _check_flagfiles(argv)
    try:
        rest = list(flags.FLAGS(argv))
    except (flags.Error, UnicodeDecodeError) as error:
        fail(f"{error}; --help lists the flags and their values")
        raise
    except OSError as error:
        fail(f"cannot read flagfile {error.filename}: {error.strerror}")
        raise
    _check_text()
    return rest


def _check_flagfiles(argv: Sequence[str]) -> None:
    """Flagfiles of the command line are plain text: of a pipe absl would wait for the end."""
    for number, argument in enumerate(argv):
        name, equals, path = argument.lstrip("-").partition("=")
        if name != "flagfile" or not argument.startswith("-"):
            continue
        if not equals:
            path = argv[number + 1] if number + 1 < len(argv) else ""
        try:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_FLAGFILE_BYTES:
                fail(f"--flagfile={path} is no plain file of flags: give one, a flag per line")
            content = Path(path).read_bytes()
            content.decode("utf-8")
        except (OSError, ValueError) as error:
            if isinstance(error, UnicodeDecodeError):
                line = content[: error.start].count(b"\n") + 1
                fail(f"{path}, line {line}: not UTF-8; save the flagfile as UTF-8 text")
            reason = getattr(error, "strerror", None) or str(error)
            fail(f"cannot read flagfile {path}: {reason}; give a file with a flag per line")


def _check_text() -> None:
    """Every value can be the name of a file, and stands in one line of a flagfile."""
    from lth_flax.experiments import flags as project_flags

    for flag in flags.FLAGS.flags_by_module_dict().get(project_flags.__name__, ()):
        for text in flag.value if isinstance(flag.value, list) else [flag.value]:
            if isinstance(text, str) and not _is_line(text):
                fail(
                    f"--{flag.name}={text!r} is no line of text: expected UTF-8 without line "
                    "breaks and NUL; give another name"
                )


def _is_line(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # bytes of a command line that are not UTF-8
        return False
    return "\0" not in text and text.splitlines() in ([text], [])
