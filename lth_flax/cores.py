"""How many cores this process may use: those of a container's quota, not those of the host."""

import math
import os
import re
from collections.abc import Iterator
from pathlib import Path


def cores_here(root: Path = Path("/")) -> int:
    """Cores that this process may use, at least one.

    Those that it may run on, as the scheduler, `taskset` and a cpuset of cgroups have it, and of
    them as many as a quota of its cgroup, or of one above, is worth. A part of a core counts as
    one: a quota of 1.5 cores keeps two rows busy for three quarters of the time.

    Args:
      root: below which `proc` and the file systems of cgroups are.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([count or 1, *map(math.ceil, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of every quota above this process, in cgroups of version 1 and 2."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" or "cpu" in controllers.split(","):
            paths["cgroup2" if number == "0" else "cgroup"] = path
    for line in _text(root / "proc/self/mountinfo").splitlines():
        mounted, _, kind = line.partition(" - ")
        fields, options = mounted.split(), kind.split()
        if len(fields) < 5 or len(options) < 3 or options[0] not in paths:
            continue
        if options[0] == "cgroup" and "cpu" not in options[2].split(","):
            continue
        top = root / _unescaped(fields[4]).lstrip("/")
        yield from _quotas_of(top, _below(paths[options[0]], _unescaped(fields[3])))


def _quotas_of(top: Path, path: str) -> Iterator[float]:
    """Of the cgroup at a path below a mount, and of all that it lies in."""
    group = top / path
    while True:
        # Version 2 has both numbers in one file, "max" for none; in version 1 -1 is none.
        words = _text(group / "cpu.max").split() or [
            _text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
        if len(words) == 2 and all(re.fullmatch(r"[1-9]\d*", word) for word in words):
            yield int(words[0]) / int(words[1])
        if group == top:
            return
        group = group.parent


def _below(path: str, mounted: str) -> str:
    """A cgroup's path below what is mounted; of one that lies elsewhere, what is mounted itself.

    In a container without a namespace of its own, the host's path is told, and mounted.
    """
    parts, above = Path(path).parts, Path(mounted).parts
    inside = parts[: len(above)] == above and ".." not in parts
    return os.path.join("", *parts[len(above) :]) if inside else ""


def _unescaped(field: str) -> str:
    r"""A path of mountinfo, in which a blank is \040."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
