"""Blocks of seeds merge into one run, or say why not."""

import dataclasses

import pytest
from analysis_fakes import SETTINGS, plausible_run, record

from lth_flax.analysis.merge import merge_records, split_groups
from lth_flax.errors import UserError
from lth_flax.records import write_records


def test_blocks_merge_into_the_bytes_of_one_run(tmp_path):
    rows = plausible_run(seeds=5, levels=2)
    blocks = [[r for r in rows if r.seed in seeds] for seeds in ((3, 4), (0,), (), (1, 2))]
    merged = merge_records(blocks)
    assert [row.seed for row in merged if row.arm == "dense" and row.checkpoint == "last"] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip
    write_records(tmp_path / "merged.csv", merged)
    write_records(tmp_path / "whole.csv", rows)
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_overlapping_seeds_are_named():
    blocks = [[record(seed=seed) for seed in seeds] for seeds in ((0, 1), (2,), (3, 1, 0))]
    with pytest.raises(UserError, match="blocks 1 and 3 share seeds 0, 1"):
        merge_records(blocks)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": SETTINGS | {"num_layers": 4}}, r"num_layers \(2, 4\);"),
        ({"settings": SETTINGS | {"dropout": 0.5}}, r"dropout \(absent, 0.5\);"),
        ({"data_fingerprint": "other"}, r"data_fingerprint \(abc123, other\);"),
        ({"schedule": "iterative", "dataset": "tweets"}, "dataset .*, schedule"),
    ],
)
def test_differing_settings_are_named(changes, named):
    with pytest.raises(UserError, match="blocks 1 and 2 differ in " + named):
        merge_records([[record(seed=0)], [record(seed=1, **changes)]])


def test_a_sweep_of_settings_is_one_block():
    def block(seed, rates):
        return [record(seed=seed, settings=SETTINGS | {"learning_rate": rate}) for rate in rates]

    merged = merge_records([block(1, (0.1, 0.2)), block(0, (0.2, 0.1))])
    groups = split_groups(merged)
    assert [[row.seed for row in group] for group in groups] == [[0, 1], [0, 1]]
    with pytest.raises(UserError, match=r"learning_rate \(0.2, 0.3\)|learning_rate \(0.1, 0.3\)"):
        merge_records([block(1, (0.1, 0.2)), block(0, (0.2, 0.3))])
    with pytest.raises(UserError, match="blocks 1 and 2 differ in learning_rate"):
        merge_records([block(1, (0.1, 0.2)), block(0, (0.2,))])


def test_groups_keep_every_row():
    rows = plausible_run(seeds=2, levels=1)
    other = [dataclasses.replace(row, schedule="iterative") for row in rows]
    groups = split_groups(rows + other)
    assert sorted(map(len, groups)) == [len(rows), len(rows)]
    assert [{row.schedule for row in group} for group in groups] == [{"iterative"}, {"oneshot"}]
