"""Work directories of one run, or of configurations to compare, put together into one.

Blocks of seeds give `records.csv`, `curves.csv` and `predictions.npz` byte for
byte as one run over all the seeds does, and configurations as one run whose
flags name several values.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lth_flax.analysis.merge import FACTORS, join_records, split_groups
from lth_flax.analysis.merge import factors as varying_factors
from lth_flax.errors import UserError
from lth_flax.files import write_text_atomic
from lth_flax.flagfile import (
    FLAGS_FILE,
    MACHINE_FLAGS,
    SEED_FLAGS,
    differences,
    lines_by_name,
    value_of,
)
from lth_flax.identity import is_identity, what_differs
from lth_flax.parts import Rows, read_rows, write_rows
from lth_flax.predictions import Predictions
from lth_flax.records import CurvePoint, Record, configuration_name, run_key

PROVENANCE_FILE = "provenance.json"
OF_SWEEP = ("experiment", "grid", "seeds_per_task")
"""What a sweep's flags say besides those of its experiment."""


class Block(NamedTuple):
    """What a work directory holds; None where a file is not there, records are enough.

    flags: lines of flags by name; `command` is the first line of that file.
    """

    name: str
    records: Sequence[Record]
    curves: Sequence[CurvePoint] | None = None
    predictions: Predictions | None = None
    command: str | None = None
    flags: Mapping[str, str] | None = None
    provenance: Mapping[str, Any] | None = None


def read_block(directory: Path) -> Block:
    """Reads a work directory.

    Raises:
      UserError: there are no records, or a file is damaged that is merged.
    """
    command, flags = read_flags(directory)
    return Block(
        str(directory),
        *read_rows(directory),
        command,
        flags,
        read_provenance(directory),
    )


def read_flags(directory: Path) -> tuple[str | None, dict[str, str] | None]:
    """The first line of flags.txt and the lines of each flag, where it can be read."""
    try:
        text = (directory / FLAGS_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None, None
    return text.partition("\n")[0], lines_by_name(text)


def read_provenance(directory: Path) -> dict[str, Any] | None:
    """What provenance.json holds, where it can be read."""
    try:
        content = json.loads((directory / PROVENANCE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def is_finished(directory: Path) -> bool:
    """Whether the run in a directory has come to its end."""
    return bool((read_provenance(directory) or {}).get("finished"))


def join_blocks(blocks: Sequence[Block]) -> Block:
    """One block of them all; blocks of seeds and configurations may come mixed.

    Raises:
      UserError: blocks share a seed, or differ in more than seeds, machines and
        the factors of `configurations`; it names them and what differs.
    """
    kinds = {frozenset(map(run_key, block.records)) for block in blocks if block.records}
    factors = FACTORS if len(kinds) > 1 else ()
    apart = {*MACHINE_FLAGS, *SEED_FLAGS, *OF_SWEEP, *factors, "ticket"}
    _check_same(blocks, [block.flags for block in blocks], lambda one, other: "; ".join(
        f"--{name} ({here}, {there})"
        for name, here, there in differences(one, other, apart_from=apart)
    ))  # fmt: skip
    # Records have but a mark of code, versions, files and numerics.
    identities = [(block.provenance or {}).get("identity") for block in blocks]
    _check_same(
        blocks,
        [identity if is_identity(identity) else None for identity in identities],
        lambda one, other: "; ".join(what_differs(one, other, words=("", ""))),
    )
    records = join_records([b.records for b in blocks], [b.name for b in blocks])
    if factors:  # networks of two configurations have the same name until now
        varying = list(varying_factors(split_groups(records)))
        blocks = [_renamed(block, varying) for block in blocks]
        records = [record for block in blocks for record in block.records]

    def all_of(name: str) -> list[Any]:
        """That part of every block, or nothing where one has none."""
        found = [getattr(block, name) for block in blocks]
        return [] if any(part is None for part in found) else found

    curves, predictions, flags = map(all_of, ("curves", "predictions", "flags"))
    return Block(
        "",
        records,
        [point for part in curves for point in part] if curves else None,
        {name: array for part in predictions for name, array in part.items()} or None,
        blocks[0].command,
        _joined_flags(flags) if flags else None,
        _joined_provenance(blocks),
    )


def _check_same(
    blocks: Sequence[Block], parts: Sequence[Any], differing: Callable[[Any, Any], str]
) -> None:
    """A part decides more than the settings in the records name, where a block has it."""
    given = [
        (block.name, part) for block, part in zip(blocks, parts, strict=True) if part is not None
    ]
    for name, part in given[1:]:
        if text := differing(given[0][1], part):
            raise UserError(
                f"{given[0][0]} and {name} differ in {text}: only blocks of one run can be merged"
            )


def write_block(directory: Path, block: Block, *, flags: bool = True) -> None:
    """Writes what a block has; with `flags` off, flags.txt is left to who knows better."""
    write_rows(directory, Rows(block.records, block.curves, block.predictions))
    if flags and block.flags is not None:
        write_text_atomic(directory / FLAGS_FILE, flags_text(block, directory))
    text = json.dumps(block.provenance or {}, indent=1, sort_keys=True, allow_nan=False)
    write_text_atomic(directory / PROVENANCE_FILE, text + "\n")


def flags_text(block: Block, directory: Path) -> str:
    """A flagfile of the one run over the seeds of this block, in this directory."""
    seeds = sorted({record.seed for record in block.records})
    lines = {**(block.flags or {}), "work_dir": f"--work_dir={directory}"}
    if "report" in lines:  # the blocks of a sweep draw none
        lines["report"] = "--report"
    head = [block.command or "#"]
    if seeds == list(range(seeds[-1] + 1)):
        lines |= {"num_seeds": f"--num_seeds={len(seeds)}"}
        lines.pop("seeds", None)
    else:
        lines |= {"seeds": f"--seeds={seeds[0]}:{seeds[-1] + 1}"}
        if len(seeds) < seeds[-1] + 1 - seeds[0]:
            head.append(f"# Of these seeds only {', '.join(map(str, seeds))} are here.")
    return "\n".join([*head, *(lines[name] for name in sorted(lines))]) + "\n"


def _renamed(block: Block, varying: Sequence[str]) -> Block:
    """With the names that a run has for networks if it trains all configurations."""
    names = {}
    for record in block.records:
        parts = [p for p in record.row_id.split("/") if p.partition("=")[0] not in FACTORS]
        parts.append(configuration_name({n: float(record.settings[n]) for n in varying}))
        names[record.row_id] = "/".join(parts)

    def named(row: Any) -> Any:
        return replace(row, row_id=names.get(row.row_id, row.row_id))

    split = [(*name.rpartition("/"), array) for name, array in (block.predictions or {}).items()]
    return block._replace(
        records=[named(record) for record in block.records],
        curves=block.curves and [named(point) for point in block.curves],
        predictions=block.predictions
        and {f"{names.get(row, row)}/{last}": array for row, _, last, array in split},
    )


def _joined_flags(parts: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Those of the first, with every value of the factors."""
    joined = dict(parts[0])
    for name in FACTORS:
        values = [
            value for part in parts if name in part for value in value_of(part[name]).split(",")
        ]
        if values:
            joined[name] = f"--{name}={','.join(dict.fromkeys(values))}"
    return joined


def _joined_provenance(blocks: Sequence[Block]) -> dict[str, Any]:
    """What the blocks have in common, and each one's own; a merged block counts as its parts."""
    found = [block.provenance or {} for block in blocks]
    own: dict[str, Mapping[str, Any]] = {}
    for block, one in zip(blocks, found, strict=True):
        merged = one.get("blocks")
        own |= merged if isinstance(merged, dict) else {block.name: one}
    joined = {
        name: found[0][name]
        for name in ("data", "versions", "identity", "source_revision", "machine")
        if all(name in one and one[name] == found[0][name] for one in found)
    }
    return {**joined, "finished": all(one.get("finished") for one in found), "blocks": own}
