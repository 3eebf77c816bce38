"""Records of runs made apart: blocks of seeds as one run, and configurations side by side."""

from collections.abc import Iterable, Sequence
from typing import Any

from lth_flax.errors import UserError
from lth_flax.records import RUN_COLUMNS, Record, grouped, run_key, sort_records

FACTORS = ("num_layers", "learning_rate", "epochs")
"""Settings in which the configurations of one grid may differ."""

Values = tuple[float, ...]
"""A configuration: the values of `FACTORS`."""


def values_of(record: Record) -> Values | None:
    """The values of the factors; None where the settings do not name them."""
    try:
        return tuple(float(record.settings[name]) for name in FACTORS)
    except (KeyError, TypeError, ValueError):
        return None


def factors(groups: Iterable[Sequence[Record]]) -> dict[str, list[float]]:
    """Of the groups of one grid, the factors that vary, with their values."""
    columns = zip(*(values_of(group[0]) or () for group in groups), strict=True)
    found = {name: sorted(set(column)) for name, column in zip(FACTORS, columns, strict=True)}
    return {name: values for name, values in found.items() if len(values) > 1}


def comparable(records: Iterable[Record]) -> bool:
    """Whether the records hold several configurations that differ in `FACTORS` alone."""
    groups = split_groups(records)
    if len(groups) < 2:
        return False
    different = {name for group in groups for name in differing(groups[0][0], group[0])}
    return different <= set(FACTORS) and all(values_of(group[0]) for group in groups)


def split_groups(records: Iterable[Record]) -> list[list[Record]]:
    """Records of the same experiment, dataset and settings, each group in canonical order."""
    return list(grouped(sort_records(records), run_key).values())


def join_records(
    blocks: Sequence[Sequence[Record]], names: Sequence[str] | None = None
) -> list[Record]:
    """The records that one run over all the seeds and configurations of the blocks gives.

    Blocks have the same settings (a run may hold several) and other seeds, or are of other
    configurations on the same data.

    Raises:
      UserError: two blocks share a seed, or differ in more; the message names the blocks (by
        their numbers from 1, if they have no `names`), and the seeds or the settings.
    """
    names = names or [str(number) for number in range(1, len(blocks) + 1)]
    kinds = [{(*run_key(r), r.data_fingerprint): r for r in block} for block in blocks]
    filled = [(name, kind) for name, kind in zip(names, kinds, strict=True) if kind]
    together = [record for block in blocks for record in block]
    apart = all(one.keys() == other.keys() or not one.keys() & other.keys()
                for _, one in filled for _, other in filled)  # fmt: skip
    one_grid = apart and comparable(together)
    for name, kind in filled:
        odd = [kind.keys() - filled[0][1].keys(), filled[0][1].keys() - kind.keys()]
        if any(odd) and not one_grid:
            mine, theirs = (kind, filled[0][1]) if odd[0] else (filled[0][1], kind)
            one = mine[min(odd[0] or odd[1])]
            # The nearest setting of the other block shows best what differs.
            found = min((differing(other, one) for other in theirs.values()), key=len)
            said = ", ".join(f"{name} ({a}, {b})" for name, (a, b) in found.items())
            raise UserError(
                f"blocks {filled[0][0]} and {name} differ in {said}; "
                "only blocks of one run can be merged"
            )
    owner: dict[tuple[Any, int], str] = {}
    for name, kind, block in zip(names, kinds, blocks, strict=True):
        seeds = {(frozenset(kind), record.seed) for record in block}
        shared = sorted(seed for mark, seed in seeds if (mark, seed) in owner)
        if shared:
            raise UserError(
                f"blocks {owner[frozenset(kind), shared[0]]} and {name} share "
                f"seed{'s' * (len(shared) > 1)} {', '.join(map(str, shared))}; "
                "every seed goes in once"
            )
        owner |= dict.fromkeys(seeds, name)
    return sort_records(together)


def differing(one: Record, other: Record) -> dict[str, tuple[Any, Any]]:
    """What differs between two runs: columns, then settings, with both values."""
    pairs = {name: (getattr(one, name), getattr(other, name)) for name in RUN_COLUMNS}
    for key in sorted(one.settings.keys() | other.settings.keys()):
        pairs[key] = (one.settings.get(key, "absent"), other.settings.get(key, "absent"))
    return {name: (a, b) for name, (a, b) in pairs.items() if a != b}
