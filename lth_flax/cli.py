"""How every command starts and ends: flags from `config`, one line and status 2 on bad input.

The only module that knows of command lines. A command is a function of a
`Config`; `run` makes that from flags and flagfiles, and turns errors and
signals into a line and an exit status.
"""

import inspect
import os
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

# Before anything imports TFDS or TensorFlow-like libraries: their banners are not for users.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from absl import flags, logging  # noqa: E402

import lth_flax.jax_import  # noqa: E402, F401  (before any module here imports it)
from lth_flax import interrupt  # noqa: E402
from lth_flax.config import ALIASES, Config, settings_of  # noqa: E402
from lth_flax.errors import Planned, UserError  # noqa: E402
from lth_flax.flagfile import with_flagfiles  # noqa: E402
from lth_flax.ignored import DEFAULTS, UNUSED, notes, refuse_ignored, refuse_unused  # noqa: E402
from lth_flax.quiet import quiet_process  # noqa: E402
from lth_flax.settings import Setting  # noqa: E402
from lth_flax.streams import fail, unfailing  # noqa: E402

AnyConfig = TypeVar("AnyConfig", bound=Config)


def run(
    main: Callable[[AnyConfig], None],
    config: type[AnyConfig] = Config,  # type: ignore[assignment]
    name: str = "",
    arguments: str | None = None,
) -> None:
    """Runs `main` with the settings of the command line.

    Args:
      main: raises `UserError` for bad input.
      name: of the command, in `UNUSED` and `DEFAULTS`.
      arguments: the setting, of many values, that arguments without a name belong to.
    """
    logging.set_verbosity(logging.ERROR)
    with unfailing():
        try:
            if {"--help", "-help", "--helpfull", "-h", "-?"} & set(sys.argv[1:]):
                print(help_text(main, config, name))
                return
            _check_directory()
            settings = parse(config, sys.argv[1:], name, arguments)
            for note in notes(settings):
                print(note)
            interrupt.install()
            quiet_process()
            main(settings)
        except Planned:
            return
        except UserError as error:
            fail(str(error))
        except interrupt.Interrupted as stop:
            interrupt.leave(stop.signum)


def parse(
    config: type[AnyConfig],
    arguments: Sequence[str],
    name: str = "",
    positional: str | None = None,
) -> AnyConfig:
    """The settings that flags and flagfiles give; the last value of a flag counts.

    Args:
      name: of the command, in `UNUSED` and `DEFAULTS`.
      positional: the setting that arguments without a name are values of, if there is one.

    Raises:
      UserError: a flag is unknown, has no such value, or means nothing here.
    """
    settings = settings_of(config)
    given = _flags(settings, DEFAULTS.get(name, {}))
    given.set_gnu_getopt(positional is not None)  # flags may stand after arguments, too
    arguments = with_flagfiles(arguments)
    try:
        rest = given(["command", *arguments])[1:]
    except (flags.Error, ValueError) as error:  # ValueError: of --noprogress=true
        raise UserError(f"{error}; --help lists the flags and their values") from None
    if rest and positional is None:
        raise UserError(f"unexpected argument {rest[0]!r}: expected only flags, as --name=value")
    values: dict[str, Any] = {name: given[name].value for name in settings}
    if positional is not None:
        # A value is one line; an argument of a shell may be several.
        values[positional] = (*values[positional], *(" ".join(one.splitlines()) for one in rest))
    present = frozenset(name for name in settings if given[name].present)
    found = config(**values, given=present)
    refuse_unused(found, name)
    refuse_ignored(found)
    return found


def help_text(main: Callable[..., None], config: type[Config], name: str = "") -> str:
    """What `--help` prints: what the command does, and its flags with defaults, in groups."""
    module = inspect.getmodule(main)
    lines = [((module and module.__doc__) or "").strip(), ""]
    lines.append(
        "Flags, as --name=value, or --flagfile=FILE with one a line; the last value counts:"
    )
    group: type | None = None
    for flag, setting in settings_of(config).items():
        if flag in UNUSED.get(name, ()):
            continue
        if setting.group is not group:
            group = setting.group
            lines += ["", (group.__doc__ or group.__name__).splitlines()[0]]
        default = DEFAULTS.get(name, {}).get(flag, setting.default)
        ends = [f"{setting.of} {', '.join(setting.names)}"] if setting.names else []
        if default not in (None, (), ""):
            ends.append(f"default {setting.text(default)}")
        spelled = f"--[no]{flag}" if setting.kind is bool else f"--{flag}"
        text = f"{setting.help} ({'; '.join(ends)})" if ends else setting.help
        lines.append(f"  {spelled}")
        lines += textwrap.wrap(text, 96, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


class _Parser(flags.ArgumentParser):
    """Reads the values of a setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.syntactic_help = setting, setting.expected

    def parse(self, argument: Any) -> Any:
        return self.setting.read(argument)

    def flag_type(self) -> str:
        return self.setting.kind.__name__


def _flags(settings: Mapping[str, Setting], defaults: Mapping[str, Any]) -> flags.FlagValues:
    """Flags of our own: nothing global, so that a process may parse as often as it likes."""
    found = flags.FlagValues()
    for name, setting in settings.items():
        default = defaults.get(name, setting.default)
        if setting.kind is bool:
            flags.DEFINE_boolean(name, default, setting.help, flag_values=found)
            found[name].parser = _Parser(setting)
        elif setting.repeated:
            flags.DEFINE_multi_string(name, list(default), setting.help, flag_values=found)
        else:
            flags.DEFINE(_Parser(setting), name, default, setting.help, flag_values=found)
    for other, name in ALIASES.items():
        flags.DEFINE_alias(other, name, flag_values=found)
    return found


def _check_directory() -> None:
    """A directory that was deleted is still current, and no relative path leads anywhere."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(
            f"the current directory is gone ({error.strerror}): go to one that is there"
        ) from None
