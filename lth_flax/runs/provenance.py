"""Where the rows of a run come from: its identity, and the revision of this code."""

import os
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lth_flax.config import Config, settings_of
from lth_flax.data.sources import reader
from lth_flax.identity import identity_of

PACKAGE = Path(__file__).resolve().parents[1]


def identity_now(
    config: Config,
    experiment: str,
    *,
    data: str,
    files: Mapping[str, str],
    functions: Sequence[Callable[..., Any]] = (),
    task: str = "",
    environment: Mapping[str, str] | None = None,
) -> dict[str, dict[str, str]]:
    """What the rows of an experiment with these flags come from, apart from the flags.

    `functions` are those of the task, `task` its name and version. `environment` is
    that of the process that trains, if it is not this one.
    """
    named = [config.function("criterion"), reader(config)]
    named += [settings_of()["arms"].function(arm) for arm in config.arms]
    if config.method is not None:
        named.append(config.function("method"))
    return identity_of(
        data=data,
        files=files,
        command=f"lth_flax.experiments.{experiment}",
        functions=[*named, *functions],
        task=task,
        environment=environment,
    )


def source_revision(package: Path = PACKAGE) -> str | None:
    """The git revision of this package, with "+" where files of it differ from that, or None.

    Only of its own checkout: a virtual environment may lie in any repository.
    """
    # Set inside of a git hook, these name another repository.
    environment = {n: v for n, v in os.environ.items() if not n.startswith("GIT_")}

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", "--no-optional-locks", "-C", str(package), *arguments],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
        return found.stdout.strip()

    try:
        project = tomllib.loads((package.parent / "pyproject.toml").read_text(encoding="utf-8"))
        if project["project"]["name"] != "lth_flax":
            return None
        git("ls-files", "--error-unmatch", "--", "__init__.py")
        changed = git("status", "--porcelain", "--", ".")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, ValueError, KeyError, TypeError, subprocess.CalledProcessError):
        return None
