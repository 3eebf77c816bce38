"""Records of runs made apart: blocks of seeds as one run, and configurations side by side."""

from collections.abc import Iterable, Sequence
from typing import Any

from lth_flax.errors import UserError
from lth_flax.records import Record, run_key, sort_records

FACTORS = ("num_layers", "learning_rate", "epochs")
"""Settings in which the configurations of one grid may differ."""

Values = tuple[float, ...]
"""A configuration: the values of `FACTORS`."""

_ABSENT = object()


def values_of(record: Record) -> Values | None:
    """The values of the factors; None where the settings do not name them."""
    try:
        return tuple(float(record.settings[name]) for name in FACTORS)
    except (KeyError, TypeError, ValueError):
        return None


def comparable(records: Iterable[Record]) -> bool:
    """Whether the records hold several configurations that differ in `FACTORS` alone."""
    groups = split_groups(records)
    if len(groups) < 2:
        return False
    first = groups[0][0]
    different = {name.partition(" ")[0] for g in groups for name in differing_keys(first, g[0])}
    return different <= set(FACTORS) and all(values_of(g[0]) is not None for g in groups)


def split_groups(records: Iterable[Record]) -> list[list[Record]]:
    """Records of the same experiment, dataset and settings, each group in canonical order."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in sort_records(records):
        groups.setdefault(run_key(record), []).append(record)
    return list(groups.values())


def group_blocks(blocks: Sequence[Sequence[Record]]) -> list[list[int]]:
    """Numbers of the blocks of the same settings; blocks without a record are in the first."""
    groups: dict[frozenset[tuple[str, ...]], list[int]] = {}
    empty = []
    for number, block in enumerate(blocks):
        if block:
            groups.setdefault(frozenset(map(run_key, block)), []).append(number)
        else:
            empty.append(number)
    first, *rest = list(groups.values()) or [[]]
    return [empty + first, *rest]


def join_records(
    blocks: Sequence[Sequence[Record]], names: Sequence[str] | None = None
) -> list[Record]:
    """Blocks of seeds of one run, or runs of different configurations, or both, as one.

    Raises:
      UserError: they are neither, as `merge_records` says it.
    """
    groups = group_blocks(blocks)
    together = [record for block in blocks for record in block]
    apart = [{run_key(record) for number in group for record in blocks[number]} for group in groups]
    disjoint = sum(map(len, apart)) == len(set().union(*apart))
    one_set = len({record.data_fingerprint for record in together}) == 1
    if not (len(groups) > 1 and disjoint and one_set and comparable(together)):
        return merge_records(blocks, names)
    names = names or [str(number) for number in range(1, len(blocks) + 1)]
    for group in groups:
        merge_records([blocks[n] for n in group], [names[n] for n in group])  # seeds, once each
    return sort_records(together)


def merge_records(
    blocks: Sequence[Sequence[Record]], names: Sequence[str] | None = None
) -> list[Record]:
    """The records that one run over all the seeds of the blocks gives, in canonical order.

    Raises `UserError` where two blocks share a seed, or differ in data or in
    any setting but the seeds; the message names the blocks (by their numbers
    from 1, if they have no `names`), and the seeds or the settings.
    """
    names = names or [str(number) for number in range(1, len(blocks) + 1)]
    filled = [(name, block) for name, block in zip(names, blocks, strict=True) if block]
    owner: dict[int, str] = {}
    for name, block in filled:
        _check_same_run(*filled[0], name, block)
        seeds = {record.seed for record in block}
        shared = sorted(seeds & owner.keys())
        if shared:
            raise UserError(
                f"blocks {owner[shared[0]]} and {name} share "
                f"seed{'s' * (len(shared) > 1)} {', '.join(map(str, shared))}; "
                "every seed goes in once"
            )
        owner |= dict.fromkeys(seeds, name)
    return sort_records(record for _, block in filled for record in block)


def _check_same_run(
    first_name: str, first: Sequence[Record], name: str, block: Sequence[Record]
) -> None:
    """A run may hold several settings (a sweep); every block must hold the same ones."""
    ours, theirs = _settings_of(first), _settings_of(block)
    odd = [theirs[key] for key in theirs if key not in ours]
    odd += [ours[key] for key in ours if key not in theirs]
    if odd:
        others = ours.values() if odd[0] in theirs.values() else theirs.values()
        # The nearest setting of the other block shows best what differs.
        differing = min((differing_keys(other, odd[0]) for other in others), key=len)
        raise UserError(
            f"blocks {first_name} and {name} differ in {', '.join(differing)}; "
            "only blocks of one run can be merged"
        )


def _settings_of(block: Iterable[Record]) -> dict[tuple[str, ...], Record]:
    return {(*run_key(record), record.data_fingerprint): record for record in block}


def differing_keys(one: Record, other: Record) -> list[str]:
    """Names of what differs between two runs: "dataset (a, b)", "num_layers (2, 4)", ..."""
    names: tuple[str, ...] = ("experiment", "dataset", "data_fingerprint")
    names += ("schedule", "scope", "criterion", "mask_from")
    pairs: list[tuple[str, Any, Any]] = [
        (name, getattr(one, name), getattr(other, name)) for name in names
    ]
    if one.settings != other.settings:
        for key in sorted(one.settings.keys() | other.settings.keys()):
            pairs.append((key, one.settings.get(key, _ABSENT), other.settings.get(key, _ABSENT)))
    return [f"{name} ({_show(a)}, {_show(b)})" for name, a, b in pairs if a != b]


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else str(value)
