"""Records: what is written comes back, bad files are named by line, nothing is half written."""

import csv
import dataclasses
import gzip
import math
import os
import stat

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax import records as rec
from lth_flax.errors import UserError
from lth_flax.files import write_bytes_atomic, write_text_atomic
from lth_flax.parts import read_rows, records_file

SHARES = st.floats(0, 1)
COUNTS = st.integers(0, 10**9)
WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12)
RECORDS = st.builds(
    rec.Record,
    row_id=WORDS,
    experiment=WORDS,
    dataset=WORDS,
    data_fingerprint=WORDS,
    settings=st.dictionaries(WORDS, st.one_of(COUNTS, SHARES, WORDS, st.booleans(), st.none())),
    schedule=WORDS,
    scope=WORDS,
    criterion=WORDS,
    mask_from=WORDS,
    arm=st.one_of(st.sampled_from(rec.ARMS), WORDS),
    seed=COUNTS,
    draw=COUNTS,
    level=COUNTS,
    target_sparsity=SHARES,
    achieved_sparsity=SHARES,
    achieved_sparsity_all=SHARES,
    checkpoint=st.sampled_from(rec.CHECKPOINTS),
    epoch=COUNTS,
    best_epoch=COUNTS,
    split=st.sampled_from(rec.SPLITS),
    examples=COUNTS,
    accuracy=SHARES,
    balanced_accuracy=SHARES,
    loss=st.floats(allow_nan=False),
    predicted_shares=st.lists(SHARES, max_size=4).map(tuple),
    majority_accuracy=SHARES,
    density=st.dictionaries(WORDS, SHARES, max_size=4),
    connected=st.booleans(),
    mask_steps=COUNTS,
    diverged_epoch=st.none() | COUNTS,
)
PLAIN = rec.Record(
    row_id="ticket/level=0.5/seed=3/draw=0",
    experiment="winning_ticket",
    dataset="synthetic",
    data_fingerprint="abc",
    settings={"hidden": 8},
    schedule="oneshot",
    scope="global",
    criterion="magnitude",
    mask_from="end of training",
    arm="ticket",
    seed=3,
    draw=0,
    level=1,
    target_sparsity=0.5,
    achieved_sparsity=0.5,
    achieved_sparsity_all=0.25,
    checkpoint="last",
    epoch=4,
    best_epoch=2,
    split="test",
    examples=200,
    accuracy=0.9,
    balanced_accuracy=0.9,
    loss=0.3,
    predicted_shares=(0.5, 0.5),
    majority_accuracy=0.5,
    density={"lstm_0/forward/input_kernel/i": 0.5},
    connected=True,
    mask_steps=40,
    diverged_epoch=None,
)


def change(**changes) -> rec.Record:
    return dataclasses.replace(PLAIN, **changes)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(RECORDS, max_size=5, unique_by=lambda row: row.row_id), order=st.randoms())
def test_records_round_trip_in_one_order(tmp_path_factory, rows, order):
    folder = tmp_path_factory.mktemp("records")
    rec.write_records(folder / "a.csv", rows)
    read = rec.read_records(folder / "a.csv")
    assert read == rec.sort_records(rows)
    by_id = {row.row_id: row for row in rows}
    assert {row.row_id: row for row in read} == by_id
    order.shuffle(rows)
    rec.write_records(folder / "b.csv", rows)
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf, 1e-320, 0.1 + 0.2, -0.0])
def test_losses_keep_their_bits(tmp_path, loss):
    rec.write_records(tmp_path / "r.csv", [change(loss=loss, diverged_epoch=2)])
    (row,) = rec.read_records(tmp_path / "r.csv")
    assert np.float64(row.loss).tobytes() == np.float64(loss).tobytes()
    assert row.diverged_epoch == 2


def test_numpy_scalars_are_written_as_numbers(tmp_path):
    row = change(seed=np.int64(3), accuracy=np.float64(0.9), connected=np.bool_(True))
    rec.write_records(tmp_path / "r.csv", [row])
    assert rec.read_records(tmp_path / "r.csv") == [PLAIN]


def test_rows_are_sorted_by_arm_level_seed_draw_checkpoint(tmp_path):
    rows = [
        change(arm="reinit", row_id="e", draw=1),
        change(arm="reinit", row_id="d"),
        change(arm="ticket", row_id="c", target_sparsity=0.9),
        change(arm="ticket", row_id="b", seed=11),
        change(arm="ticket", row_id="b", seed=11, checkpoint="best"),
        change(arm="dense", row_id="a", seed=12),
    ]
    rec.write_records(tmp_path / "r.csv", rows)
    found = [(row.row_id, row.checkpoint) for row in rec.read_records(tmp_path / "r.csv")]
    last = [(name, "last") for name in "abcde"]
    assert found == [last[0], last[1], ("b", "best"), *last[2:]]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("accuracy", 1.5),
        ("accuracy", math.nan),
        ("accuracy", 90.0),
        ("seed", -1),
        ("seed", 1.0),
        ("seed", True),
        ("row_id", "two\nlines"),
        ("row_id", ""),
        ("checkpoint", "first"),
        ("split", "train"),
        ("settings", {"rate": math.nan}),
        ("settings", [1]),
        ("density", {"a": 2.0}),
        ("predicted_shares", (math.inf,)),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, column, value):
    path = tmp_path / "r.csv"
    rec.write_records(path, [PLAIN])
    before = path.read_bytes()
    with pytest.raises(UserError, match=f"column '{column}'"):
        rec.write_records(path, [PLAIN, change(**{column: value})])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"]


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("seed", "three"),
        ("seed", "1_0"),
        ("seed", "9" * 30),
        ("accuracy", "1.01"),
        ("accuracy", "nan"),
        ("accuracy", " 0.5"),
        ("loss", ""),
        ("connected", "yes"),
        ("settings", "{"),
        ("settings", "[" * 100_000),
        ("settings", '{"a": NaN}'),
        ("density", '{"a": true}'),
        ("predicted_shares", "0.5"),
        ("diverged_epoch", "-1"),
        ("checkpoint", "newest"),
    ],
)
def test_bad_cells_are_named_by_line_and_column(tmp_path, column, cell):
    path = tmp_path / "r.csv"
    rec.write_records(path, [PLAIN, change(row_id="other")])
    with open(path, newline="") as stream:
        lines = list(csv.reader(stream))
    lines[2][lines[0].index(column)] = cell
    with open(path, "w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(lines)
    with pytest.raises(UserError) as caught:
        rec.read_records(path)
    assert f"{path}: line 3: column '{column}': expected" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_broken_files_are_refused_with_one_line(tmp_path):
    path = tmp_path / "r.csv"
    rec.write_records(path, [PLAIN, change(row_id="other")])
    good = path.read_bytes()
    header, first, second = good.splitlines(keepends=True)
    for content, message in [
        (b"", "line 1: column 'row_id' is missing"),
        (header.replace(b"seed", b"sead") + first, "line 1: column 'seed' is missing"),
        (header.replace(b"seed", b"seed,extra"), "line 1: unknown column 'extra'"),
        (b",".join(header.strip().split(b",")[::-1]) + b"\n", "line 1: columns in another order"),
        (good[:-1], "line 3: cut short"),
        (header + b"a,b,c" + b"\n", "line 2: 3 cells where"),
        (header + first + first, "line 3: the same row as line 2"),
        (header + first + b"\xff\n", "line 3: not UTF-8"),
        (header + b'"open\n', "line 2: not valid CSV"),
    ]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message) as caught:
            rec.read_records(path)
        assert "\n" not in str(caught.value)
    packed = gzip.compress(good)
    for damaged in (packed[:-9], packed[:20] + b"\0" * 20 + packed[40:], b"plain"):
        (tmp_path / "r.csv.gz").write_bytes(damaged)
        with pytest.raises(UserError, match="cannot be read .*: restore it") as caught:
            rec.read_records(tmp_path / "r.csv.gz")
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="cannot be read"):
        rec.read_records(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot be read"):
        rec.read_records(tmp_path)


def test_a_packed_file_is_read_where_there_is_no_other(tmp_path):
    rec.write_records(tmp_path / "records.csv", [PLAIN])
    assert records_file(tmp_path) == tmp_path / "records.csv"
    packed = gzip.compress((tmp_path / "records.csv").read_bytes())
    (tmp_path / "records.csv").unlink()
    assert records_file(tmp_path) is None
    (tmp_path / "records.csv.gz").write_bytes(packed)
    assert records_file(tmp_path) == tmp_path / "records.csv.gz"
    assert read_rows(tmp_path).records == [PLAIN]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_damage_is_an_error_or_a_valid_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "r.csv"
    rec.write_records(path, [PLAIN, change(row_id="other", loss=math.nan)])
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = ""
    try:
        rows = rec.read_records(path)
    except UserError as error:
        rows, message = [], str(error)
    assert "\n" not in message
    assert all(0 <= row.accuracy <= 1 for row in rows)


def test_the_same_row_is_not_written_twice(tmp_path):
    with pytest.raises(UserError, match="twice"):
        rec.write_records(tmp_path / "r.csv", [PLAIN, change(accuracy=0.1)])
    rec.write_records(tmp_path / "r.csv", [PLAIN, change(split="validation")])
    assert len(rec.read_records(tmp_path / "r.csv")) == 2


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "r.csv"
    rec.write_records(path, [PLAIN])
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        rec.write_records(path, [PLAIN, change(row_id="other")])
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["r.csv"]


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_return(
    tmp_path, monkeypatch
):
    """What a power cut needs: file flushed, renamed, directory flushed, in this order."""
    done = []
    fsync, replace = os.fsync, os.replace

    def kind(descriptor):
        return "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"

    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(kind(fd)), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("rename"), replace(*names))[1])
    rec.write_text_atomic(tmp_path / "t", "x")
    assert done == ["file", "rename", "directory"]


def test_writing_into_an_absent_folder_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_text_atomic(tmp_path / "absent" / "x.txt", "x")


def test_text_and_bytes_are_written_as_they_are(tmp_path):
    write_text_atomic(tmp_path / "t", "a\r\nb ±\n")
    write_bytes_atomic(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "t").read_bytes() == b"a\r\nb \xc2\xb1\n"
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"


def test_curves_round_trip_in_order(tmp_path):
    point = rec.CurvePoint("t", "ticket", 0, 0, 0.5, 2, 0.25, None, None)
    other = dataclasses.replace(point, epoch=1, train_loss=math.inf, validation_accuracy=0.1 + 0.2)
    rec.write_curves(tmp_path / "c.csv", [point, other])
    assert rec.read_curves(tmp_path / "c.csv") == [other, point]
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == (
        "row_id,arm,seed,draw,target_sparsity,epoch,train_loss,validation_loss,validation_accuracy,"
        "validation_score"
    )
    assert lines[2] == "t,ticket,0,0,0.5,2,0.25,,,"
    with pytest.raises(UserError, match="twice"):
        rec.write_curves(tmp_path / "c.csv", [point, point])


def test_rows_of_a_run_share_its_settings(tmp_path):
    """They are most of the file: a copy for each row would grow the process with the run."""
    rows = [dataclasses.replace(PLAIN, settings=dict(PLAIN.settings), seed=n) for n in range(2)]
    rec.write_records(tmp_path / "records.csv", rows)
    first, second = rec.read_records(tmp_path / "records.csv")
    (again, _) = rec.read_records(tmp_path / "records.csv")
    assert first.settings is second.settings is again.settings
    assert first.settings == PLAIN.settings
    assert first.experiment is second.experiment
