"""`flags.txt`: the flags of a run, one a line, and which of them its findings depend on."""

from collections.abc import Collection, Mapping

FLAGS_FILE = "flags.txt"

MACHINE_FLAGS = (
    "work_dir",
    "replicates",
    "rows_per_program",
    "cache_dir",
    "checkpoint_minutes",
    "progress",
    "platform",
    "data_file",
    "validation_file",
    "test_file",
    "data_dir",
    "embeddings_file",
    # Of sweep.
    "ray_address",
    "cpus_per_task",
    "gpus_per_task",
    "max_retries",
)
"""Flags that say where and how a run works, not what it finds: they may differ
when a run is continued. Data is compared by its fingerprint instead."""

SEED_FLAGS = ("num_seeds", "seeds")


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
