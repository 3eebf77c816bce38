"""A search streams its rows: what it finds is the same, and the disk has it when a slice ends."""

import dataclasses
import os

import pytest
from test_search import TRAINING, arrays, mlp

import lth_flax as lth
from lth_flax.analysis.blocks import read_block
from lth_flax.pruning.masks import sparsity
from lth_flax.records import compact_json
from lth_flax.runs import setup


def search(**options):
    task = dataclasses.replace(mlp(), name="mlp", version="1")
    given = {"seeds": 3, "levels": [0.5, 0.8], "training": TRAINING, **options}
    return lth.find_tickets(task, arrays(), **given)


def rows(records):
    """As comparable values, without what says where they were made."""
    found = []
    for record in records:
        settings = {n: value for n, value in record.settings.items() if n != "identity"}
        values = dataclasses.asdict(record) | {"settings": settings}
        found.append(compact_json(values))
    return sorted(found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"rewind": 1}, {"schedule": "oneshot"}], ids=["rewinding", "one-shot"]
)
def test_on_disk_and_in_memory_the_same_is_found(tmp_path, options):
    assert rows(search(work_dir=tmp_path / "run", **options).records) == rows(
        search(**options).records
    )


class Pulled(Exception):
    """The plug was."""


def plug(seed, mask, level, draw):
    """An arm that ends the process, so to say, at the last level."""
    if "PULL" in os.environ and sparsity(mask) > 0.7:
        raise Pulled
    return seed.initial_params, mask


@pytest.mark.slow
def test_what_an_interrupted_run_has_found_can_be_read_and_it_ends_with_the_same_bytes(
    tmp_path, monkeypatch
):
    def run(directory):
        return search(arms=("ticket", plug), work_dir=directory)

    whole = tmp_path / "whole"
    result = run(whole)
    monkeypatch.setenv("PULL", "1")
    with pytest.raises(Pulled):
        run(tmp_path / "pulled")
    monkeypatch.delenv("PULL")
    found = read_block(tmp_path / "pulled")
    assert not (tmp_path / "pulled" / "records.csv").exists()
    assert rows(found.records) == rows(r for r in result.records if r.target_sparsity < 0.7)
    assert {(p.row_id, p.epoch) for p in found.curves} == {
        (r.row_id, epoch) for r in found.records for epoch in (1, 2, 3)
    }
    assert not found.provenance["finished"]
    run(tmp_path / "pulled")
    for name in ("records.csv", "curves.csv", "predictions.npz", "summary.json"):
        assert (tmp_path / "pulled" / name).read_bytes() == (whole / name).read_bytes()
    assert not (tmp_path / "pulled" / "checkpoints").exists()


@pytest.mark.slow
def test_a_network_is_drawn_once_for_all_levels_where_there_is_room(monkeypatch):
    drawn, draw = [], setup.Initializer._draw

    def spy(self, seed, number):
        drawn.append((seed, number))
        return draw(self, seed, number)

    monkeypatch.setattr(setup.Initializer, "_draw", spy)
    options = {"draws": 2, "seeds": 2, "training": dataclasses.replace(TRAINING, epochs=1)}
    first = search(**options)
    assert sorted(drawn, key=str) == sorted(
        [(seed, number) for seed in (0, 1) for number in (None, 0, 1)], key=str
    )
    monkeypatch.setattr(setup, "CACHE_BYTES", 0)
    assert rows(search(**options).records) == rows(first.records)
    assert len(drawn) > 2 * 6
