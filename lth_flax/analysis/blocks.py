"""Work directories of one run, or of configurations to compare, put together into one.

Blocks of seeds give `records.csv`, `curves.csv` and `predictions.npz` byte for
byte as one run over all the seeds does, and configurations as one run whose
flags name several values.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lth_flax.analysis.merge import FACTORS, group_blocks, join_records
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
from lth_flax.records import CurvePoint, Record, configuration_name

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
    groups = group_blocks([block.records for block in blocks])
    _check_flags(blocks, FACTORS if len(groups) > 1 else ())
    _check_identity(blocks)
    records = join_records([b.records for b in blocks], [b.name for b in blocks])
    if len(groups) > 1:  # networks of two configurations have the same name until now
        names = [_row_ids(block.records, _varying(records)) for block in blocks]
        blocks = [_renamed(block, ids) for block, ids in zip(blocks, names, strict=True)]
        records = [record for block in blocks for record in block.records]
    return Block(
        "",
        records,
        _all(blocks, lambda block: block.curves, lambda parts: [p for part in parts for p in part]),
        _all(
            blocks,
            lambda block: block.predictions,
            lambda parts: {name: array for part in parts for name, array in part.items()},
        ),
        blocks[0].command,
        _all(blocks, lambda block: block.flags, _joined_flags),
        _joined_provenance(blocks),
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
    head = [block.command or "#"]
    if seeds == list(range(seeds[-1] + 1)):
        lines |= {"num_seeds": f"--num_seeds={len(seeds)}"}
        lines.pop("seeds", None)
    else:
        lines |= {"seeds": f"--seeds={seeds[0]}:{seeds[-1] + 1}"}
        if len(seeds) < seeds[-1] + 1 - seeds[0]:
            head.append(f"# Of these seeds only {', '.join(map(str, seeds))} are here.")
    return "\n".join([*head, *(lines[name] for name in sorted(lines))]) + "\n"


def _check_flags(blocks: Sequence[Block], factors: Iterable[str]) -> None:
    """Flags decide more than the settings in the records name."""
    apart = {*MACHINE_FLAGS, *SEED_FLAGS, *OF_SWEEP, *factors, "ticket"}
    given = [block for block in blocks if block.flags is not None]
    for block in given[1:]:
        differing = differences(given[0].flags or {}, block.flags or {}, apart_from=apart)
        if differing:
            text = "; ".join(f"--{name} ({one}, {other})" for name, one, other in differing)
            raise UserError(
                f"{given[0].name} and {block.name} differ in {text}: only blocks of one run can "
                "be merged"
            )


def _check_identity(blocks: Sequence[Block]) -> None:
    """Of blocks that name their code, versions, files and numerics; records have a mark of them."""
    found = [(block.name, (block.provenance or {}).get("identity")) for block in blocks]
    given = [(name, identity) for name, identity in found if is_identity(identity)]
    for name, identity in given[1:]:
        differing = what_differs(given[0][1], identity, words=("", ""))
        if differing:
            raise UserError(
                f"{given[0][0]} and {name} differ in {'; '.join(differing)}: only blocks of one "
                "run can be merged"
            )


def _varying(records: Iterable[Record]) -> list[str]:
    values: dict[str, set[float]] = {name: set() for name in FACTORS}
    for record in records:
        for name in FACTORS:
            values[name].add(float(record.settings[name]))
    return [name for name in FACTORS if len(values[name]) > 1]


def _row_ids(records: Iterable[Record], varying: Sequence[str]) -> dict[str, str]:
    """Old -> new: the name that a run has for a network if it trains all configurations."""
    names = {}
    for record in records:
        parts = [p for p in record.row_id.split("/") if p.partition("=")[0] not in FACTORS]
        name = configuration_name({name: float(record.settings[name]) for name in varying})
        names[record.row_id] = "/".join([*parts, name])
    return names


def _renamed(block: Block, ids: Mapping[str, str]) -> Block:
    curves, predictions = block.curves, block.predictions
    if curves is not None:
        curves = [replace(point, row_id=ids.get(point.row_id, point.row_id)) for point in curves]
    if predictions is not None:
        split = ((*name.rpartition("/"), array) for name, array in predictions.items())
        predictions = {f"{ids.get(row, row)}/{last}": array for row, _, last, array in split}
    records = [replace(record, row_id=ids[record.row_id]) for record in block.records]
    return block._replace(records=records, curves=curves, predictions=predictions)


def _all(
    blocks: Sequence[Block], part: Callable[[Block], Any], join: Callable[[list[Any]], Any]
) -> Any:
    """The parts joined; None unless every block has one."""
    parts = [part(block) for block in blocks]
    return None if any(one is None for one in parts) else join(parts)


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
    own: dict[str, Mapping[str, Any]] = {}
    for block in blocks:
        provenance = block.provenance or {}
        merged = provenance.get("blocks")
        own |= merged if isinstance(merged, dict) else {block.name: provenance}
    found = [block.provenance or {} for block in blocks]
    joined: dict[str, Any] = {
        name: found[0][name]
        for name in ("data", "versions", "identity", "source_revision", "machine")
        if all(name in one and one[name] == found[0][name] for one in found)
    }
    joined["finished"] = all(bool(one.get("finished")) for one in found)
    return {**joined, "blocks": own}
