"""Blocks of seeds merge into one run, or say why not."""

import dataclasses
import json

import numpy as np
import pytest
from analysis_fakes import SETTINGS, plausible_run, record

from lth_flax.analysis import report
from lth_flax.analysis.merge import join_records, split_groups
from lth_flax.errors import UserError
from lth_flax.predictions import write_predictions
from lth_flax.records import CurvePoint, write_curves, write_records


def test_blocks_merge_into_the_bytes_of_one_run(tmp_path):
    rows = plausible_run(seeds=5, levels=2)
    blocks = [[r for r in rows if r.seed in seeds] for seeds in ((3, 4), (0,), (), (1, 2))]
    merged = join_records(blocks)
    assert [row.seed for row in merged if row.arm == "dense" and row.checkpoint == "last"] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip
    write_records(tmp_path / "merged.csv", merged)
    write_records(tmp_path / "whole.csv", rows)
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_overlapping_seeds_are_named():
    blocks = [[record(seed=seed) for seed in seeds] for seeds in ((0, 1), (2,), (3, 1, 0))]
    with pytest.raises(UserError, match="blocks 1 and 3 share seeds 0, 1"):
        join_records(blocks)


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
        join_records([[record(seed=0)], [record(seed=1, **changes)]])


def test_a_sweep_of_settings_is_one_block():
    def block(seed, rates):
        return [record(seed=seed, settings=SETTINGS | {"learning_rate": rate}) for rate in rates]

    merged = join_records([block(1, (0.1, 0.2)), block(0, (0.2, 0.1))])
    groups = split_groups(merged)
    assert [[row.seed for row in group] for group in groups] == [[0, 1], [0, 1]]
    with pytest.raises(UserError, match=r"learning_rate \(0.2, 0.3\)|learning_rate \(0.1, 0.3\)"):
        join_records([block(1, (0.1, 0.2)), block(0, (0.2, 0.3))])
    with pytest.raises(UserError, match="blocks 1 and 2 differ in learning_rate"):
        join_records([block(1, (0.1, 0.2)), block(0, (0.2,))])


def test_groups_keep_every_row():
    rows = plausible_run(seeds=2, levels=1)
    other = [dataclasses.replace(row, schedule="iterative") for row in rows]
    groups = split_groups(rows + other)
    assert sorted(map(len, groups)) == [len(rows), len(rows)]
    assert [{row.schedule for row in group} for group in groups] == [{"iterative"}, {"oneshot"}]


# Directories. ---------------------------------------------------------------------------

FLAGS = [
    "# python -m lth_flax.experiments.winning_ticket", "--data_file=here.csv", "--dropout=0.1",
    "--epochs=5", "--keep_mask", "--learning_rate=0.1", "--margin=0.5", "--num_layers=2",
    "--num_seeds=8",
]  # fmt: skip


def write_run(directory, rows, *, flags=(), finished=True, without=()):
    """A work directory of these rows, with what belongs to them."""
    directory.mkdir()
    lines = [*FLAGS, f"--work_dir={directory}", *flags]
    (directory / "flags.txt").write_text("\n".join(lines) + "\n")
    provenance = {"finished": finished, "data": {"fingerprint": "abc123"}, "machine": {"cores": 2}}
    (directory / "provenance.json").write_text(json.dumps(provenance))
    write_records(directory / "records.csv", rows)
    last = [row for row in rows if (row.checkpoint, row.split) == ("last", "test")]
    write_curves(
        directory / "curves.csv",
        [
            CurvePoint(r.row_id, r.arm, r.seed, r.draw, r.target_sparsity, epoch, 0.5, None, 0.25)
            for r in last
            for epoch in (1, 2)
        ],
    )
    predictions = {f"{r.row_id}/last": np.arange(5, dtype=np.uint8) + r.seed for r in last}
    write_predictions(directory / "predictions.npz", predictions)
    for name in without:
        (directory / name).unlink()
    return directory


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """They are drawn elsewhere, and take most of the time."""
    monkeypatch.setattr(report, "_write_figures", lambda *_: {})


def merge(capsys, *arguments):
    status = report.main([str(argument) for argument in arguments])
    return status, capsys.readouterr()


def named(rows, layers=None):
    """Rows with the ids that a run gives; of one of several depths, if `layers` is given."""
    settings = SETTINGS | {"num_layers": layers or 2, "learning_rate": 0.1, "epochs": 5}
    suffix = f"/num_layers={layers}" if layers else ""
    return [
        dataclasses.replace(
            row,
            settings=settings,
            row_id=f"dense/seed={row.seed}{suffix}"
            if row.arm == "dense"
            else f"{row.arm}/level={row.target_sparsity:g}/seed={row.seed}/draw={row.draw}{suffix}",
        )
        for row in rows
    ]


ROWS = named(plausible_run(seeds=4, levels=2))
FILES = ("records.csv", "curves.csv", "predictions.npz")


def block(seeds):
    return [row for row in ROWS if row.seed in seeds]


def check_equal(directory, other):
    for name in FILES:
        assert (directory / name).read_bytes() == (other / name).read_bytes(), name


def test_directories_merge_into_one_that_can_be_merged_again(tmp_path, capsys):
    whole = write_run(tmp_path / "whole", ROWS)
    runs = [write_run(tmp_path / name, block(s)) for name, s in (("a", [2]), ("b", [0, 1]))]
    runs.append(write_run(tmp_path / "c", block([3]), flags=["--data_file=there.csv"]))
    out = tmp_path / "out"
    assert merge(capsys, f"--out={out}", *runs[:2])[0] == 0
    assert (out / "flags.txt").read_text().splitlines() == [
        FLAGS[0], *FLAGS[1:-1], "--num_seeds=3", f"--work_dir={out}",
    ]  # fmt: skip
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["data"] == {"fingerprint": "abc123"}
    assert provenance["finished"]
    assert set(provenance["blocks"]) == set(map(str, runs[:2]))
    again = tmp_path / "again"
    status, said = merge(capsys, out, runs[2], f"--out={again}")
    assert (status, said.err) == (0, "")
    assert set(json.loads((again / "provenance.json").read_text())["blocks"]) == set(map(str, runs))
    check_equal(again, whole)
    # And what was merged has a report like any run.
    assert merge(capsys, out)[0] == 0


def test_seeds_that_are_no_block_are_said(tmp_path, capsys):
    runs = [write_run(tmp_path / str(seed), block([seed])) for seed in (1, 3)]
    assert merge(capsys, f"--out={tmp_path / 'out'}", *runs)[0] == 0
    flags = (tmp_path / "out" / "flags.txt").read_text().splitlines()
    assert flags[1] == "# Of these seeds only 1, 3 are here."
    assert "--seeds=1:4" in flags


def test_configurations_join_into_the_bytes_of_a_run_of_all(tmp_path, capsys):
    cells = {layers: named(plausible_run(seeds=2, levels=2), layers) for layers in (2, 4)}
    whole = write_run(tmp_path / "whole", [*cells[2], *cells[4]])
    runs = []
    for layers, rows in cells.items():
        for seed in (0, 1):
            own = named([row for row in rows if row.seed == seed])
            own = [dataclasses.replace(row, settings=rows[0].settings) for row in own]
            flags = [f"--num_layers={layers}"] if layers != 2 else []
            runs.append(write_run(tmp_path / f"{layers}_{seed}", own, flags=flags))
            lines = (runs[-1] / "flags.txt").read_text().splitlines()
            if flags:
                lines.remove("--num_layers=2")
            (runs[-1] / "flags.txt").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    assert merge(capsys, f"--out={out}", *runs)[0] == 0
    check_equal(out, whole)
    assert "--num_layers=2,4" in (out / "flags.txt").read_text().splitlines()
    assert (out / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("seeds", "flags", "words"),
    [
        ([1, 2], [], ["a and", "b share seed 1"]),
        ([2], ["--margin=0.7"], ["a and", "b differ in --margin (0.5, 0.5 0.7)"]),
        ([2], ["--text_key=body"], ["--text_key (unset, body)"]),
        ([2], ["--nokeep_mask"], ["--keep_mask"]),
    ],
)
def test_directories_that_cannot_be_merged_are_named(tmp_path, capsys, seeds, flags, words):
    runs = [
        write_run(tmp_path / "a", block([0, 1])),
        write_run(tmp_path / "b", block(seeds), flags=flags),
    ]
    status, said = merge(capsys, *runs, f"--out={tmp_path / 'out'}")
    assert status == 2
    assert said.err.count("\n") == 1
    assert all(word in said.err for word in words), said.err
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path, capsys):
    runs = [write_run(tmp_path / str(seed), block([seed])) for seed in (0, 1)]
    status, said = merge(capsys, *runs)
    assert status == 2
    assert f"report --out=NEW {runs[0]} {runs[1]}" in said.err
    before = (runs[0] / "records.csv").read_bytes()
    status, said = merge(capsys, *runs, f"--out={runs[0]}")
    assert status == 2
    assert "was not made by merging" in said.err
    assert (runs[0] / "records.csv").read_bytes() == before
    # Nor a sweep's directory, which says that it has blocks, but is no one's to write but its own.
    swept = write_run(tmp_path / "swept", block([2]))
    (swept / "provenance.json").write_text('{"blocks": {}}')
    (swept / "lock").write_text("")
    assert merge(capsys, *runs, f"--out={swept}")[0] == 2
    # What merging made it may make anew.
    for _ in range(2):
        assert merge(capsys, *runs, f"--out={tmp_path / 'out'}")[0] == 0


def test_records_are_enough_and_what_is_unfinished_is_said(tmp_path, capsys):
    runs = [
        write_run(tmp_path / "a", block([0]), without=["curves.csv", "flags.txt"]),
        write_run(tmp_path / "b", block([1]), finished=False),
    ]
    status, said = merge(capsys, *runs, f"--out={tmp_path / 'out'}")
    assert status == 0
    assert said.err == f"note: {runs[1]} is not finished; what it has so far is in\n"
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"records.csv", "predictions.npz", "provenance.json"} <= found
    assert not {"curves.csv", "flags.txt"} & found
    assert not json.loads((tmp_path / "out" / "provenance.json").read_text())["finished"]


def test_a_damaged_file_is_one_line(tmp_path, capsys):
    runs = [write_run(tmp_path / str(seed), block([seed])) for seed in (0, 1)]
    (runs[1] / "predictions.npz").write_bytes(b"PK\x03\x04 no archive")
    status, said = merge(capsys, *runs, f"--out={tmp_path / 'out'}")
    assert status == 2
    assert said.err.startswith(f"error: {runs[1] / 'predictions.npz'} cannot be read")
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_place_of_a_report_may_begin_at_home(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("mine")
    assert report.main(["a", "b", "--out=~/taken"]) == 2
    assert f"--out={tmp_path / 'taken'} is there already" in capsys.readouterr().err
