"""retrain_ticket through the command line, on tickets of a tiny winning_ticket run."""

import copy
import csv
import json
import shutil
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lth_flax import cli, text_tickets
from lth_flax.config import Config
from lth_flax.data import synthetic
from lth_flax.data.sources import Source
from lth_flax.errors import UserError
from lth_flax.records import read_curves, read_records

ROOT = Path(__file__).resolve().parents[2]
SIZE = 400
SAYS = {
    "dataset": "synthetic", "seed": 1, "level": 1, "target_sparsity": 0.5, "schedule": "iterative",
    "scope": "global", "criterion": "magnitude", "class_names": ["negative", "positive"],
    "model": {"embedding_size": 6, "hidden_size": 5, "num_layers": 1, "num_classes": 2},
    "settings": {
        "epochs": 2, "batch_size": 50, "learning_rate": 0.01, "clip_norm": 0.5, "dropout": 0.2,
        "max_length": 20, "max_shapes": 1, "min_count": 2, "prunable": "kernels",
        "unused_classes": 0, "embeddings": False,
    },
    "source": {"synthetic_size": SIZE},
}  # fmt: skip
"""What the ticket of seed 1 at 50% says, as far as tests below depend on it."""


def start(command: str, cache: Path, *flags: str) -> subprocess.Popen:
    common = ["--noprogress", "--platform=cpu", f"--cache_dir={cache}"]
    return commands.start(f"lth_flax.experiments.{command}", *common, *flags, cwd=ROOT)


def run(command: str, cache: Path, *flags: str) -> str:
    process = start(command, cache, *flags)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def source_run(cache, tmp_path_factory) -> Path:
    """Two seeds, two levels, and settings that are no flag's default."""
    directory = tmp_path_factory.mktemp("runs") / "winning_ticket"
    run(
        "winning_ticket",
        cache,
        f"--work_dir={directory}",
        f"--synthetic_size={SIZE}",
        "--num_seeds=2",
        "--levels=0.5,0.9",
        "--reinit_draws=2",
        "--embedding_size=6",
        "--hidden_size=5",
        "--num_layers=1",
        "--dropout=0.2",
        "--epochs=2",
        "--batch_size=50",
        "--learning_rate=0.01",
        "--clip_norm=0.5",
        "--max_length=20",
        "--max_shapes=1",
        "--noreport",
    )
    return directory


@pytest.fixture(scope="module")
def on_same_data(source_run, cache, tmp_path_factory) -> tuple[Path, str]:
    """Seed 1's ticket at 50%, retrained with no flag but its directory and the draws."""
    work_dir = tmp_path_factory.mktemp("runs") / "retrain"
    ticket = source_run / "tickets" / "seed_1" / "level_0.5"
    flags = [f"--ticket={ticket}", f"--work_dir={work_dir}", "--reinit_draws=2"]
    return work_dir, run("retrain_ticket", cache, *flags)


@pytest.fixture(scope="module")
def ticket_json(source_run) -> dict:
    path = source_run / "tickets" / "seed_1" / "level_0.5" / "ticket.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_ticket_says_what_the_fast_tests_take_from_it(ticket_json):
    for name, value in SAYS.items():
        found = ticket_json[name]
        assert (found if not isinstance(value, dict) else found | value) == found


def cells(directory: Path) -> dict[tuple, list]:
    """What training gave, by what names a row in any work directory.

    Another command is other code, and its rows say so.
    """
    return {
        (r.arm, r.target_sparsity, r.seed, r.draw, r.checkpoint, r.split): [
            r.accuracy, r.balanced_accuracy, r.loss, r.predicted_shares, r.best_epoch,
            r.achieved_sparsity, r.density, r.connected, r.mask_steps, r.data_fingerprint,
            {name: value for name, value in r.settings.items() if name != "identity"},
        ]
        for r in read_records(directory / "records.csv")
    }  # fmt: skip


def predictions(directory: Path) -> dict[str, bytes]:
    with np.load(directory / "predictions.npz") as archive:
        return {name: archive[name].tobytes() for name in archive.files}


@pytest.mark.slow
def test_the_same_data_gives_the_same_bits(source_run, on_same_data):
    work_dir, printed = on_same_data
    found, again = cells(source_run), cells(work_dir)
    arms = {("dense", 0), ("ticket", 0), ("reinit", 0), ("reinit", 1)}
    assert {(key[0], key[3]) for key in again} == arms
    assert len(again) == 4 * 4  # rows x (checkpoints and splits)
    assert again == {key: found[key] for key in again}
    assert "The data and its split are those that the ticket was found on" in printed


@pytest.mark.slow
def test_the_same_data_gives_the_same_curves_and_predictions(source_run, on_same_data):
    def losses(directory):
        return {
            (p.arm, p.target_sparsity, p.seed, p.draw, p.epoch): (p.train_loss, p.validation_loss)
            for p in read_curves(directory / "curves.csv")
        }

    found, again = losses(source_run), losses(on_same_data[0])
    assert len(again) == 4 * 2
    assert again == {key: found[key] for key in again}
    found, again = predictions(source_run), predictions(on_same_data[0])
    row = "ticket/level=0.5/seed=1/draw=0"
    (name,) = [n for n in again if n.startswith(row) and n.endswith("/last")]
    assert again[name] == found[f"{row}/last"]


@pytest.mark.slow
def test_one_seed_has_a_report_without_a_verdict(on_same_data):
    work_dir, printed = on_same_data
    assert "Cannot tell with 1 seed" in printed
    assert "Cannot tell with 1 seed" in (work_dir / "report" / "report.html").read_text("utf-8")
    summary = json.loads((work_dir / "summary.json").read_text("utf-8"))
    assert [one["seeds"] for one in summary["configurations"]] == [[1]]


@pytest.mark.slow
def test_records_are_added_and_a_repeated_row_replaces_itself(
    source_run, on_same_data, cache, tmp_path
):
    work_dir = Path(shutil.copytree(on_same_data[0], tmp_path / "work"))
    tickets = source_run / "tickets"
    first = (work_dir / "records.csv").read_text("utf-8")
    flags = [f"--work_dir={work_dir}", "--reinit_draws=2"]

    # Tickets of one run, each with its own seed and level, become one analysis.
    run("retrain_ticket", cache, f"--ticket={tickets}/seed_0/level_0.9", *flags)
    both = (work_dir / "records.csv").read_text("utf-8")
    assert set(first.splitlines()) < set(both.splitlines())
    assert cells(work_dir).items() <= cells(source_run).items()
    summary = json.loads((work_dir / "summary.json").read_text("utf-8"))
    (one,) = summary["configurations"]
    assert (one["seeds"], one["levels"]) == ([0, 1], [0.5, 0.9])
    labels = {name for name in predictions(work_dir) if name.startswith("labels/")}
    assert labels == {f"labels/synthetic/seed={seed}" for seed in (0, 1)}
    assert len(predictions(work_dir)) == 2 * 2 * 4 + len(labels)

    # The work directory's own flags replay it, and change nothing.
    curves, kept = (work_dir / "curves.csv").read_bytes(), predictions(work_dir)
    run("retrain_ticket", cache, f"--flagfile={work_dir}/flags.txt")
    assert (work_dir / "records.csv").read_text("utf-8") == both
    assert (work_dir / "curves.csv").read_bytes() == curves
    assert predictions(work_dir) == kept


@pytest.fixture(scope="module")
def reviews(tmp_path_factory, ticket_json) -> tuple[Path, float]:
    """A CSV of the same task with words that the ticket lacks, and their share."""
    texts, labels = synthetic.generate(SIZE, 5)
    texts = [f"zzz{row % 7} {text}" if row % 2 else text for row, text in enumerate(texts)]
    file = tmp_path_factory.mktemp("data") / "reviews.csv"
    with open(file, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["review", "verdict"])
        writer.writerows(
            (text, ("neg", "pos")[label]) for text, label in zip(texts, labels, strict=True)
        )
    known = set(ticket_json["vocabulary"])
    # The end of a text is kept, which is where max_length=20 looks.
    words = [word for text in texts for word in text.split()[-20:]]
    return file, sum(word not in known for word in words) / len(words)


@pytest.mark.slow
def test_other_data_with_unknown_words(source_run, on_same_data, reviews, cache, tmp_path):
    work_dir = Path(shutil.copytree(on_same_data[0], tmp_path / "work"))
    before = set((work_dir / "records.csv").read_text("utf-8").splitlines())
    file, unknown = reviews
    printed = run(
        "retrain_ticket",
        cache,
        f"--ticket={source_run}/tickets/seed_1/level_0.5",
        f"--work_dir={work_dir}",
        "--dataset=csv",
        f"--data_file={file}",
        "--text_column=review",
        "--label_column=verdict",
        "--num_seeds=2",
        "--epochs=1",
    )
    assert f"{unknown:.1%} of its words are unknown" in printed
    assert 0.01 < unknown < 0.5
    assert before < set((work_dir / "records.csv").read_text("utf-8").splitlines())
    rows = [r for r in read_records(work_dir / "records.csv") if r.dataset == "csv"]
    assert {(r.arm, r.seed, r.draw) for r in rows} == {
        (arm, seed, 0) for arm in ("dense", "ticket", "reinit") for seed in (0, 1)
    }
    assert all(np.isfinite(r.loss) and r.settings["epochs"] == 1 for r in rows)
    assert all(r.settings["learning_rate"] == 0.01 for r in rows)
    # Both questions are answered, each by itself.
    summary = json.loads((work_dir / "summary.json").read_text("utf-8"))
    assert sorted((one["dataset"], one["seeds"]) for one in summary["configurations"]) == [
        ("csv", [0, 1]),
        ("synthetic", [1]),
    ]


@pytest.mark.slow
def test_bad_input_is_one_line_and_nothing_is_written(source_run, cache, tmp_path):
    ticket = f"--ticket={source_run}/tickets/seed_0/level_0.5"
    three = tmp_path / "three.csv"
    lines = [f"text {row},{('neg', 'neu', 'pos')[row % 3]}" for row in range(300)]
    three.write_text("\n".join(["t,l", *lines]) + "\n", encoding="utf-8")
    columns = [f"--data_file={three}", "--text_column=t", "--label_column=l"]
    damaged = Path(shutil.copytree(source_run / "tickets/seed_0/level_0.5", tmp_path / "damaged"))
    (damaged / "arrays" / "manifest.ocdbt").write_bytes(b"")
    cases = {
        "--ticket is missing": [],
        "is no ticket": [f"--ticket={source_run}"],
        "is damaged": [f"--ticket={damaged}"],
        "neg, neu, pos": [ticket, "--dataset=csv", *columns],
        "--hidden_size=7 is not the ticket's 5": [ticket, "--hidden_size=7"],
        "was made by": [ticket, f"--work_dir={source_run}"],
    }
    before = sorted(source_run.rglob("*"))
    work_dir = tmp_path / "work"
    processes = [
        start("retrain_ticket", cache, f"--work_dir={work_dir}", *flags) for flags in cases.values()
    ]
    for message, process in zip(cases, processes, strict=True):
        out, err = process.communicate(timeout=300)
        assert (process.returncode, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
        assert not work_dir.exists()
    assert sorted(source_run.rglob("*")) == before


@pytest.mark.slow
def test_damaged_records_are_not_overwritten(source_run, on_same_data, cache, tmp_path):
    work_dir = Path(shutil.copytree(on_same_data[0], tmp_path / "work"))
    (work_dir / "predictions.npz").write_bytes(b"PK\x03\x04 no archive")
    before = {p: p.read_bytes() for p in work_dir.rglob("*") if p.is_file() and p.name != "lock"}
    ticket = f"--ticket={source_run}/tickets/seed_0/level_0.9"
    process = start("retrain_ticket", cache, ticket, f"--work_dir={work_dir}")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "predictions.npz cannot be read" in err
    assert before == {p: p.read_bytes() for p in before}


# In-process: flags and classes.


def config_of(*arguments):
    return cli.parse(Config, ["--ticket=T", *arguments], "retrain_ticket")


def test_the_ticket_gives_what_flags_do_not():
    config = text_tickets.with_settings(config_of("--epochs=7"), SAYS)
    assert (config.epochs, config.batch_size, config.clip_norm) == ((7,), 50, 0.5)
    assert (config.hidden_size, config.synthetic_size, config.seeds) == (5, SIZE, "1:2")
    # What is given counts, also where it is the default.
    config = text_tickets.with_settings(config_of("--clip_norm=1.0"), SAYS)
    assert config.clip_norm == 1.0


@pytest.mark.parametrize(
    ("flag", "match"),
    [
        ("--hidden_size=7", "--hidden_size=7 is not the ticket's 5"),
        ("--embedding_size=64", "--embedding_size=64 is not the ticket's 6"),
        ("--num_layers=2", "--num_layers=2 is not the ticket's 1"),
        ("--min_count=1", "--min_count=1 is not the ticket's 2"),
        ("--prunable=head", "--prunable=head is not the ticket's 'kernels'"),
        ("--unused_classes=2", "--unused_classes=2 is not the ticket's 0"),
        ("--rewind_epoch=1", "--rewind_epoch means nothing"),
        ("--nokeep_mask", "--keep_mask means nothing"),
        ("--levels=0.5", "--levels means nothing"),
        ("--arms=ticket", "--arms means nothing"),
        ("--embeddings_file=x", "found without word vectors"),
    ],
)
def test_flags_that_contradict_the_ticket_are_refused(flag, match):
    with pytest.raises(UserError, match=match):
        text_tickets.with_settings(config_of(flag), SAYS)


def test_a_ticket_of_another_task_is_one_line():
    for task in ("language_model", "mine", ["text_classification"]):
        with pytest.raises(UserError, match="expected one of text classification") as error:
            text_tickets.check_metadata(config_of(), {**SAYS, "task": task})
        assert "\n" not in str(error.value)


def test_classes_without_a_label_are_not_asked_of_the_data():
    found = copy.deepcopy(SAYS)
    found["class_names"].append("unused_0")
    found["settings"]["unused_classes"] = 1
    config = text_tickets.with_settings(config_of(), found)
    assert config.unused_classes == 1
    assert text_tickets.used_classes(config, found) == ["negative", "positive"]


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_metadata_is_used_or_refused_in_one_line(data, ticket_json):
    found = copy.deepcopy(ticket_json)
    place = data.draw(st.sampled_from(["top", "settings", "source"]))
    holder = found if place == "top" else found[place]
    # What load_ticket has checked is not damaged again here.
    names = set(holder) - {"model", "vocabulary", "class_names", "format_version", "arrays"}
    name = data.draw(st.sampled_from(sorted(names)))
    if data.draw(st.booleans()):
        holder[name] = data.draw(VALUES)
    else:
        del holder[name]
    config = config_of()
    try:
        text_tickets.check_metadata(config, found)
        config = text_tickets.with_settings(config, found)
    except UserError:
        return
    # Whatever was taken over could have been given on the command line.
    assert cli.parse(Config, list(config.lines().values())) == config
    for value in (config.one("epochs"), config.batch_size, config.hidden_size, config.max_length):
        assert type(value) is int
        assert 0 <= value < 2**31


def source_with(*class_names: str) -> Source:
    labels = np.arange(len(class_names), dtype=np.int32)
    return Source("other", tuple(class_names), labels, class_names, fingerprint="0" * 64)


@pytest.mark.parametrize(
    ("theirs", "labels"),
    [
        (("negative", "positive"), [0, 1]),
        (("positive", "negative"), [1, 0]),
        (("Pos", "NEG"), [1, 0]),
        (("0", "1"), [0, 1]),
        (("-1", "1"), [0, 1]),
    ],
)
def test_classes_match_by_name_or_as_numbers(theirs, labels):
    matched = text_tickets.with_classes(source_with(*theirs), ["negative", "positive"])
    assert matched.labels.tolist() == labels
    assert matched.class_names == ("negative", "positive")
    assert matched.fingerprint == "0" * 64


@pytest.mark.parametrize(
    "theirs",
    [
        ("negative", "neutral", "positive"),
        ("ham", "spam"),
        ("ne", "po"),
        ("positive", "pos"),
        ("negative", "neg"),
    ],
)
def test_classes_of_another_task_are_refused(theirs):
    with pytest.raises(UserError, match="expected a data set of the same task"):
        text_tickets.with_classes(source_with(*theirs), ["negative", "positive"])
