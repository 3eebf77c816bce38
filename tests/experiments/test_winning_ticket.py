"""A tiny `winning_ticket` through the command line: what it leaves must hang together."""

import csv
import itertools
from pathlib import Path
from types import SimpleNamespace

import commands
import jax
import numpy as np
import pytest

from lth_flax import cli
from lth_flax.config import CompareConfig, Config, StabilityConfig
from lth_flax.data.dataset import build_dataset
from lth_flax.data.sources import load_source
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import path_names
from lth_flax.records import Record, read_curves, read_records
from lth_flax.runs.choices import chosen_arms, chosen_levels, seed_block
from lth_flax.runs.grid import shapes, step_of
from lth_flax.tickets import load_ticket

ROOT = Path(__file__).resolve().parents[2]

ARMS = ("ticket", "reinit", "shuffled", "random")
LEVELS = (0.0, 0.4, 0.7)
SEEDS = (0, 1)
TEXTS, HIDDEN, EMBEDDING, BATCH, EPOCHS = 300, 8, 8, 32, 2
STEPS = EPOCHS * 7  # 300 texts less 10% and 20% are 210: six batches of 32 and some
TINY = [
    f"--synthetic_size={TEXTS}",
    f"--hidden_size={HIDDEN}",
    f"--embedding_size={EMBEDDING}",
    f"--batch_size={BATCH}",
    f"--epochs={EPOCHS}",
    f"--num_seeds={len(SEEDS)}",
    "--learning_rate=0.02",
    "--dropout=0.1",
    "--max_shapes=1",
    "--noprogress",
]
# Per direction: layer 0 reads the embedding, layer 1 both directions of layer 0.
PRUNABLE = (
    2 * (EMBEDDING + HIDDEN) * 4 * HIDDEN + 2 * (2 * HIDDEN + HIDDEN) * 4 * HIDDEN + 2 * HIDDEN * 2
)
BIASES = 4 * 4 * HIDDEN + 2


def succeed(work_dir, *arguments):
    """One run that has to work, and where it left what."""
    cache = work_dir.parent / "cache"
    places = f"--work_dir={work_dir}", f"--cache_dir={cache}"
    done = commands.run(
        "lth_flax.experiments.winning_ticket", *arguments, *places, cwd=work_dir.parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return SimpleNamespace(
        directory=work_dir,
        stdout=done.stdout,
        records=read_records(work_dir / "records.csv"),
        predictions=dict(np.load(work_dir / "predictions.npz", allow_pickle=False)),
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("winning_ticket")


@pytest.fixture(scope="module")
def run(place):
    levels = ",".join(map(str, LEVELS))
    arms = f"--arms={','.join(ARMS)}"
    return succeed(place / "run", *TINY, f"--levels={levels}", arms, "--noreport")


@pytest.fixture(scope="module")
def report(run):
    """What `--noreport` left out, by its own command."""
    done = commands.run("lth_flax.analysis.report", str(run.directory), cwd=run.directory.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"Report: {run.directory / 'report' / 'report.html'}\n")
    return run.directory / "report"


@pytest.fixture(scope="module")
def tickets(run):
    return {
        (seed, level): load_ticket(run.directory / "tickets" / f"seed_{seed}" / f"level_{level:g}")
        for seed in SEEDS
        for level in LEVELS
    }


def pick(run, arm, seed, level=0.0, checkpoint="last", split="test") -> Record:
    (record,) = [
        record
        for record in run.records
        if (record.arm, record.seed, record.target_sparsity) == (arm, seed, level)
        and (record.checkpoint, record.split) == (checkpoint, split)
    ]
    return record


def result(record):
    """What training and scoring gave, apart from what the row is called."""
    return (
        record.accuracy,
        record.balanced_accuracy,
        record.loss,
        record.predicted_shares,
        record.best_epoch,
        record.diverged_epoch,
    )


def kernels(tree):
    return {
        "/".join(path_names(path)): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if path_names(path)[-1].endswith("kernel")
    }


def test_every_replicate_has_its_four_records_and_its_curve(run):
    expected = {
        (arm, seed, level, checkpoint, split)
        for arm, level in [("dense", 0.0), *itertools.product(ARMS, LEVELS)]
        for seed in SEEDS
        for checkpoint in ("last", "best")
        for split in ("validation", "test")
    }
    found = [(r.arm, r.seed, r.target_sparsity, r.checkpoint, r.split) for r in run.records]
    assert len(found) == len(expected) == 4 * len(SEEDS) * (1 + len(ARMS) * len(LEVELS))
    assert set(found) == expected
    rows = {record.row_id for record in run.records}
    assert len(rows) == len(expected) // 4
    for record in run.records:
        assert record.epoch == (EPOCHS if record.checkpoint == "last" else record.best_epoch)
        assert 1 <= record.best_epoch <= EPOCHS
        assert record.examples == {"validation": 30, "test": 60}[record.split]
        assert sum(record.predicted_shares) == pytest.approx(1)
        # Each search costs one more training than the level before.
        assert record.mask_steps == (STEPS * record.level if record.arm != "dense" else 0)
    points = read_curves(run.directory / "curves.csv")
    assert sorted((p.row_id, p.epoch) for p in points) == sorted(
        itertools.product(rows, range(1, EPOCHS + 1))
    )


def test_accuracy_is_that_of_the_kept_predictions_and_the_best_epoch_that_of_the_curve(run):
    source = load_source(Config(dataset="synthetic", synthetic_size=TEXTS))
    dataset = build_dataset(source, SEEDS, options())
    for record in run.records:
        if record.split == "test":
            predicted = run.predictions[f"{record.row_id}/{record.checkpoint}"]
            labels = dataset.labels(record.seed, "test")
            assert record.accuracy == (predicted == labels).mean()
    best = {}
    for point in read_curves(run.directory / "curves.csv"):
        best.setdefault(point.row_id, []).append((point.validation_accuracy, -point.epoch))
    for record in run.records:
        accuracy, epoch = max(best[record.row_id])
        assert record.best_epoch == -epoch
        if (record.checkpoint, record.split) == ("best", "validation"):
            assert record.accuracy == accuracy


@pytest.mark.parametrize("seed", SEEDS)
def test_a_ticket_at_level_zero_is_the_dense_network_to_the_bit(run, seed):
    for checkpoint, split in itertools.product(("last", "best"), ("validation", "test")):
        dense = pick(run, "dense", seed, 0.0, checkpoint, split)
        ticket = pick(run, "ticket", seed, 0.0, checkpoint, split)
        assert result(dense) == result(ticket)
        if split == "test":
            np.testing.assert_array_equal(
                run.predictions[f"{dense.row_id}/{checkpoint}"],
                run.predictions[f"{ticket.row_id}/{checkpoint}"],
            )
    # Nothing to shuffle, nothing to draw: they are dense too. A fresh initialization is not.
    for arm in ("shuffled", "random"):
        assert result(pick(run, arm, seed)) == result(pick(run, "dense", seed))
    assert result(pick(run, "reinit", seed)) != result(pick(run, "dense", seed))


def test_sparsity_is_exact_in_every_arm(run, tickets):
    size = tickets[0, 0.4].metadata["model"]["vocabulary_size"] * EMBEDDING
    for record in run.records:
        removed = round(record.target_sparsity * PRUNABLE)
        assert record.achieved_sparsity == removed / PRUNABLE
    for seed in SEEDS:
        total = PRUNABLE + BIASES + size
        assert pick(run, "random", seed, 0.7).achieved_sparsity_all == 1814 / total


def test_controls_keep_what_they_promise(run):
    for seed in SEEDS:
        ticket, reinit, shuffled, random = (pick(run, arm, seed, 0.7) for arm in ARMS)
        assert reinit.density == ticket.density
        for name, share in ticket.density.items():
            if name.endswith("kernel"):
                assert shuffled.density[name] == share
        # By gate the permuted mask differs, and a random one differs in every way.
        assert shuffled.density != ticket.density
        assert random.density != ticket.density
        assert len({result(record) for record in (ticket, reinit, shuffled, random)}) == 4
    assert pick(run, "random", 0, 0.7).density != pick(run, "random", 1, 0.7).density


def test_tickets_hold_their_masks_and_their_weights(run, tickets):
    for (seed, level), ticket in tickets.items():
        masks = kernels(ticket.mask)
        removed = sum(int((~mask).sum()) for mask in masks.values())
        assert removed == round(level * PRUNABLE)
        density = pick(run, "ticket", seed, level).density
        trained, initial = kernels(ticket.trained_params), kernels(ticket.initial_params)
        first = kernels(tickets[seed, 0.0].initial_params)
        for name, mask in masks.items():
            assert density[name] == mask.mean()
            assert (trained[name][~mask] == 0).all()
            assert (trained[name] != initial[name])[mask].any()
            # One initialization for all levels of a seed, and it is whole.
            np.testing.assert_array_equal(initial[name], first[name])
            assert initial[name].all()
        assert (ticket.metadata["seed"], ticket.metadata["target_sparsity"]) == (seed, level)
    for seed in SEEDS:
        wide, narrow = (kernels(tickets[seed, level].mask) for level in (0.4, 0.7))
        assert not any((narrow[name] & ~wide[name]).any() for name in wide)


def test_masks_are_the_largest_weights_of_the_network_before(tickets):
    for seed in SEEDS:
        for before, after in itertools.pairwise(LEVELS):
            trained = kernels(tickets[seed, before].trained_params)
            earlier, mask = (kernels(tickets[seed, level].mask) for level in (before, after))
            kept = np.concatenate([abs(trained[n][mask[n]]) for n in mask])
            gone = np.concatenate([abs(trained[n][earlier[n] & ~mask[n]]) for n in mask])
            assert kept.min() >= gone.max()


def options():
    return Config(max_shapes=1, batch_size=BATCH)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loaded_ticket_answers_as_recorded(run, tickets, seed):
    dataset = build_dataset(
        load_source(Config(dataset="synthetic", synthetic_size=TEXTS)), SEEDS, options()
    )
    (bucket,), (members,) = dataset.buckets, dataset.members[seed]["test"]
    for level in LEVELS:
        ticket, record = tickets[seed, level], pick(run, "ticket", seed, level)
        assert ticket.metadata["split_fingerprint"] == dataset.split_fingerprint(seed)
        assert tuple(ticket.metadata["vocabulary"]) == dataset.vocabularies[seed].words
        model = BiLSTMClassifier(**ticket.metadata["model"])
        logits = jax.jit(model.apply)(
            {"params": ticket.trained_params},
            bucket["tokens"][members],
            bucket["lengths"][members],
        )
        predicted = np.argmax(np.asarray(logits), axis=1)
        assert (predicted == bucket["labels"][members]).mean() == record.accuracy
        np.testing.assert_array_equal(predicted, run.predictions[f"{record.row_id}/last"])


def test_the_report_is_there(run, report):
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    for figure in ("accuracy", "gap", "density"):
        assert (report / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
        assert "<svg" in (report / f"{figure}.svg").read_text(encoding="utf-8")
    assert (run.directory / "summary.json").stat().st_size > 0
    assert not (run.directory / "checkpoints").exists()


def test_the_terminal_shows_the_table_and_the_verdict(run):
    lines = run.stdout.splitlines()
    (header,) = [line for line in lines if line.split()[:1] == ["sparsity"]]
    assert all(arm in header for arm in ARMS)
    for name, level in (("40%", 0.4), ("70%", 0.7)):
        (line,) = [line for line in lines if line.split()[:1] == [name]]
        mean = np.mean([pick(run, "ticket", seed, level).accuracy for seed in SEEDS])
        assert line.split()[1] == f"{100 * mean:.2f}"
    # Two seeds have four sign patterns: no p below 0.25, and no arm can win.
    assert "Cannot tell with 2 seeds" in run.stdout or "equivalent" in run.stdout.lower()
    assert f"Report: python -m lth_flax.analysis.report {run.directory}" in run.stdout


@pytest.mark.slow
def test_its_flags_replay_to_the_same_bytes(run, report, place):
    again = succeed(place / "again", f"--flagfile={run.directory / 'flags.txt'}", "--report")
    assert str(again.directory / "report" / "report.html") in again.stdout
    same = ["records.csv", "curves.csv", "summary.json"]
    same += [
        f"report/{name}.{kind}"
        for name in ("accuracy", "gap", "density")
        for kind in ("svg", "png")
    ]
    for name in same:
        assert (again.directory / name).read_bytes() == (run.directory / name).read_bytes(), name
    assert again.predictions.keys() == run.predictions.keys()
    for name, predicted in run.predictions.items():
        np.testing.assert_array_equal(again.predictions[name], predicted)


@pytest.mark.slow
def test_oneshot_takes_every_mask_from_the_dense_network(run, tickets, place):
    once = succeed(
        place / "oneshot", *TINY, "--schedule=oneshot", "--levels=0.4,0.7", "--arms=ticket"
    )
    assert len(once.records) == 4 * len(SEEDS) * 3
    for seed in SEEDS:
        # Round zero is the same network, and so is the first mask that is cut from it.
        assert result(pick(once, "dense", seed)) == result(pick(run, "dense", seed))
        assert result(pick(once, "ticket", seed, 0.4)) == result(pick(run, "ticket", seed, 0.4))
        assert pick(once, "ticket", seed, 0.7).mask_steps == STEPS
        trained = kernels(tickets[seed, 0.0].trained_params)
        folder = once.directory / "tickets" / f"seed_{seed}"
        mask = kernels(load_ticket(folder / "level_0.7").mask)
        sizes = np.sort(np.concatenate([abs(w).ravel() for w in trained.values()]))
        for name in mask:
            np.testing.assert_array_equal(mask[name], abs(trained[name]) > sizes[1814 - 1])


CONFIGS = sorted((ROOT / "configs").glob("*.flags"))


def test_the_promised_configurations_are_there():
    assert {path.stem for path in CONFIGS} >= {
        "quickstart",
        "tweets_winning_ticket",
        "imdb_winning_ticket",
        "imdb_reference",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_parses(path):
    kinds = {
        "tweets_connectivity": StabilityConfig, "compare_methods_tweets": CompareConfig,
        "early_methods_widths": CompareConfig,
    }  # fmt: skip
    kind = kinds.get(path.stem, Config)
    config = cli.parse(kind, [f"--flagfile={path}"])
    given = [line[2:].partition("=") for line in path.read_text().splitlines() if line[:2] == "--"]
    assert given
    for name, equals, value in given:
        if equals and name != "flagfile":  # that of another configuration
            flag = getattr(config, name)
            parts = list(flag) if isinstance(flag, list | tuple) else [flag]
            texts = value.split(",") if isinstance(flag, list | tuple) else [value]
            for part, text in zip(parts, texts, strict=True):
                same = float(text) == part if type(part) in (int, float) else text == str(part)
                assert same, name
    # And what it asks for is legal.
    assert len(seed_block(config)) >= 1
    assert config.dense_only or (chosen_levels(config) and chosen_arms(config))
    for shape in shapes(config):
        # Late rewinding is what tickets of language models need.
        rewound = path.stem.startswith("language_model") and not config.dense_only
        assert (step_of(config, "rewind_epoch", shape.epochs, 100) > 0) == rewound
    assert path.read_text().startswith("#")


def test_records_have_a_header_that_is_csv(run):
    with open(run.directory / "records.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(run.records)
    assert {row["experiment"] for row in rows} == {"winning_ticket"}


@pytest.mark.slow
def test_units_are_pruned_as_users_compile_it(tmp_path):
    """With fusions of several outputs XLA ended the process at this program (JAX 0.10 and 0.11)."""
    done = commands.run(
        "lth_flax.experiments.winning_ticket", *TINY, "--num_seeds=1", "--levels=0.5", "--epochs=1",
        "--structure=units", "--unit_norm=2", "--scope=tensor", "--noreport", "--cache_dir=",
        f"--work_dir={tmp_path}", cwd=tmp_path, JAX_DISABLE_MOST_OPTIMIZATIONS="0",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tickets = [r for r in read_records(tmp_path / "records.csv") if r.arm == "ticket"]
    assert {tuple(r.settings["structure"]) for r in tickets} == {("units",)}
