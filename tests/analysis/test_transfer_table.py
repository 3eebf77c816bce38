"""The table of where tickets come from and where they are trained, against gaps set by hand."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_fakes import dense, record

from lth_flax.analysis.result import Options
from lth_flax.analysis.transfer import lines_of, origin, place, table, write_transfer
from lth_flax.parts import Rows, write_rows

SETTINGS = {"optimizer": "adam", "learning_rate": 0.002, "num_layers": 2, "epochs": 5}
TWEETS, SGD = SETTINGS, {**SETTINGS, "optimizer": "sgd", "learning_rate": 0.1}
HERE, THERE = place("tweets", TWEETS), place("tweets", SGD)


def rows(source, settings, ticket, **controls):
    """Eight seeds of one source at one target; accuracies by arm, with a little of the seed."""
    common = {
        "settings": settings, "dataset": "tweets", "experiment": "transfer",
        "mask_from": origin(source, f"data 1, settings {source}, on data 2"),
        "test_drawn": True, "train_examples": 1000, "examples": 250,
    }  # fmt: skip
    found = []
    for seed in range(8):
        noise = 0.001 * (seed - 3.5)
        found.append(dense(seed, 0.9 + noise, **common))
        for arm, accuracy in {"ticket": ticket, **controls}.items():
            own = noise * (1 + 0.1 * len(arm))
            found.append(record(arm=arm, seed=seed, accuracy=accuracy + own, **common))
    return found


RECORDS = [
    *rows(HERE, TWEETS, 0.85, reinit=0.83, shuffled=0.80),
    *rows(HERE, SGD, 0.82, reinit=0.82, shuffled=0.81),
    *rows(THERE, SGD, 0.84, reinit=0.83, shuffled=0.79),
]


def test_places_say_what_may_differ():
    assert HERE == "tweets, adam at 0.002, 2 layers"
    assert place("imdb", {**SETTINGS, "num_layers": 1}) == "imdb, adam at 0.002, 1 layer"


def test_every_source_at_every_target_against_every_control():
    lines = {(line.source, line.target, line.control): line for line in lines_of(RECORDS)}
    expected = {
        (HERE, HERE, "reinit"): 2, (HERE, HERE, "shuffled"): 5,
        (HERE, THERE, "reinit"): 0, (HERE, THERE, "shuffled"): 1,
        (THERE, THERE, "reinit"): 1, (THERE, THERE, "shuffled"): 5,
        # With the target's own ticket, of the same seeds.
        (HERE, THERE, "native"): -2,
    }  # fmt: skip
    assert lines.keys() == expected.keys()
    for key, gap in expected.items():
        assert lines[key].gap == pytest.approx(gap, abs=1e-6)
        assert lines[key].seeds == 8
        assert lines[key].low <= gap <= lines[key].high
    # 2 / 2^8 where one arm is ahead in every seed; of three tests of a control, thrice.
    assert lines[HERE, HERE, "reinit"].p == pytest.approx(2 / 2**8)
    assert lines[HERE, HERE, "reinit"].p_adjusted == pytest.approx(3 * 2 / 2**8)
    assert lines[HERE, THERE, "native"].p_adjusted == pytest.approx(2 / 2**8)
    assert lines[HERE, THERE, "native"].verdict == "control better"


def test_texts_that_seeds_share_are_in_its_intervals():
    random = np.random.default_rng(0)
    made, predictions = [], {}
    for number, row in enumerate(RECORDS):
        right, name = random.random(200) < row.accuracy, f"{number}/{row.row_id}"
        shape = {"row_id": name, "examples": 200, "test_drawn": False}
        made.append(replace(row, accuracy=right.mean(), **shape))
        predictions[f"{name}/{row.checkpoint}"] = right.astype(np.uint8)
    without, known = lines_of(made), lines_of(made, predictions=predictions)
    assert all(one.low > other.low for one, other in zip(without, known, strict=True))


def test_the_table_has_sources_below_and_targets_beside_each_other(tmp_path):
    write_rows(tmp_path, Rows(RECORDS))
    printed = write_transfer(tmp_path, Options())
    assert printed == table(lines_of(RECORDS))
    first, *_, last = printed.split("\n\n")
    head, one, other = first.splitlines()
    assert head.split("  ")[0] == "ticket minus reinit, points (adjusted p)"
    assert f"on {HERE}" in head
    assert head.index(f"on {HERE}") < head.index(f"on {THERE}")
    assert one.startswith(f"of {HERE}")
    assert "+2.00 (0.023)" in one
    assert other.startswith(f"of {THERE}")
    assert other.split()[-2] == "+1.00"
    assert "ticket minus native" in last
    assert "-2.00" in last
    text = (tmp_path / "transfer.csv").read_text().splitlines()
    assert text[0] == "source,target,control,seeds,gap,low,high,p,p_adjusted,verdict"
    assert len(text) == 1 + 7


def test_what_is_no_transfer_is_left_out():
    assert lines_of([dense(0), record(seed=0), record(arm="reinit", seed=0)]) == []
    one = [row for row in RECORDS if row.seed == 0]
    assert {line.low for line in lines_of(one)} == {None}
    assert np.isfinite([line.gap for line in lines_of(one)]).all()
