"""What `accelerator` measures: each part runs in a process of its own, and reports as it goes.

A part gets the sizes of everything and `report`, which keeps what was found so far.
"""

import contextlib
import csv
import importlib.util
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lth_flax.benchmarks import timing
from lth_flax.benchmarks.experiment import QUESTIONS, run_ours
from lth_flax.benchmarks.scaling import made_up
from lth_flax.benchmarks.shapes import CLASSES, DROPOUT, LEARNING_RATE, SHAPES
from lth_flax.benchmarks.train_step import in_jax, torch_workers
from lth_flax.data import synthetic
from lth_flax.models import lstm
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.randomness import key
from lth_flax.records import read_records, where
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.loop import Hooks, Stopped, Trainer
from lth_flax.training.memory import footprint
from lth_flax.training.replicates import Engine
from lth_flax.training.table import Replicate, Start

TOLERANCE = 1e-5
"""Of one step's gradients, relative, over ways to run it and backends."""

NOISE = 3.5
"""Standard errors of a mean over eight seeds that 99% of chance differences lie within."""

QUICKSTART: Mapping[str, Any] = {
    "dataset": "synthetic", "num_seeds": 4, "levels": [0.5, 0.8, 0.9, 0.95], "reinit_draws": 2,
    "embedding_size": 32, "hidden_size": 32, "num_layers": 2, "dropout": 0.1, "epochs": 6,
    "batch_size": 64, "learning_rate": 0.005, "max_shapes": 2,
}  # fmt: skip
"""That of `configs/quickstart.flags`."""

TWEETS_IN_ALL = 5790

Report = Callable[[Mapping[str, Any]], None]


class Sizes(NamedTuple):
    """How large everything is; `TINY` is for a test.

    shape: of a training step, by name; rows of the embedding are `words`.
    rows: of the tables against whose size throughput is measured.
    replicates: that train as one program, against cuDNN.
    memory: rows of two tables whose memory is measured.
    changes: settings that differ in whole experiments.
    """

    shape: str = "tweets"
    words: int = 10_000
    agreeing: int = 8
    rows: tuple[int, ...] = (1, 8, 64, 256, 1024)
    replicates: int = 160
    memory: tuple[int, ...] = (16, 160)
    steps: int = 10
    rounds: int = 5
    changes: Mapping[str, Any] = {}


FULL = Sizes()
TINY = Sizes(
    shape="tiny", words=20, agreeing=2, rows=(1, 2), replicates=2, memory=(1, 2), steps=1, rounds=1,
    changes={
        "num_seeds": 2, "levels": [0.5], "reinit_draws": 1, "epochs": 1, "hidden_size": 2,
        "num_layers": 1, "max_shapes": 1, "embedding_size": 4,
    },
)  # fmt: skip


def machine(sizes: Sizes, report: Report) -> None:
    """What it is measured on."""
    del sizes
    kinds = [str(device.device_kind) for device in jax.devices()]
    report({**timing.describe_machine(), "devices": kinds})


# Do vmap, map and the CPU agree?


def agree(sizes: Sizes, report: Report) -> None:
    """Outputs and gradients of one batch, of rows with weights and dropout of their own."""
    shape, rows = SHAPES[sizes.shape], range(sizes.agreeing)
    model = BiLSTMClassifier(
        sizes.words, shape.features, shape.hidden, shape.layers, CLASSES, DROPOUT
    )
    loss, predict = make_loss(model), make_predict(model)
    rng = np.random.default_rng(0)
    batch = {
        "tokens": rng.integers(1, sizes.words, (shape.batch, shape.length)).astype(np.int32),
        "lengths": rng.integers(0, shape.length + 1, shape.batch).astype(np.int32),
        "labels": rng.integers(CLASSES, size=shape.batch).astype(np.int32),
        "weight": np.ones(shape.batch, np.float32),
    }
    device, cpu = jax.devices()[0], jax.devices("cpu")[0]
    with jax.default_device(cpu):
        init = jax.jit(model.init)
        params = [
            init(key(row, "initialization"), batch["tokens"], batch["lengths"])["params"]
            for row in rows
        ]
        params = jax.device_get(params)

    def one(params: Any, dropout_key: jax.Array, batch: Any) -> Any:
        return predict(params, batch), jax.value_and_grad(loss)(params, batch, dropout_key)

    ways = {"vmap": ("vmap", device), "map": ("map", device), "CPU": ("map", cpu)}
    found = {}
    for name, (mode, where_) in ways.items():
        engine = Engine(mode, (where_,), len(rows), donate=False)  # type: ignore[arg-type]
        keys = engine.place_rows([key(row, "dropout") for row in rows])
        lifted, shared = engine.lift(one), engine.place_shared(batch)
        found[name] = jax.device_get(lifted(engine.place_rows(params), (keys,), (shared,)))
    report({f"{a}, {b}": difference(found[a], found[b]) for a, b in pairs(ways)})


def pairs(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    return list(itertools.combinations(names, 2))


def difference(one: Any, other: Any) -> dict[str, Any]:
    """Of the answers of two ways: the largest relative error of any row, and whether it is small.

    Both are (outputs, (loss, gradients)), with rows in front.
    """

    def error(mine: Any, theirs: Any) -> float:
        """The largest over leaves and rows, in norm."""
        leaves = zip(
            jax.tree_util.tree_leaves(mine), jax.tree_util.tree_leaves(theirs), strict=True
        )
        errors = [
            np.linalg.norm(a - b) / max(float(np.linalg.norm(b)), 1e-30)
            for x, y in leaves
            for a, b in zip(x.astype(np.float64), y.astype(np.float64), strict=True)
        ]
        return float(np.max(errors))

    found = {
        "outputs": error(one[0]["loss"], other[0]["loss"]),
        "same_classes": float(np.mean(one[0]["predicted"] == other[0]["predicted"])),
        "gradients": error(one[1], other[1]),
    }
    return found | {"agree": max(found["outputs"], found["gradients"]) <= TOLERANCE}


def accuracy(sizes: Sizes, report: Report) -> None:
    """A small experiment, seed by seed: do the ways differ by more than noise?"""
    question = {
        **QUICKSTART, "num_seeds": 8, **sizes.changes, "levels": [0.5],
        "dense_only": True,
    }  # fmt: skip
    ways = {
        "vmap": {"replicates": "vmap"},
        "map": {"replicates": "map"},
        "CPU": {"platform": "cpu"},
    }
    scores: dict[str, list[float]] = {}
    for name, flags in ways.items():
        with tempfile.TemporaryDirectory() as directory:
            run_ours({**question, **flags}, None, Path(directory))
            records = read_records(Path(directory, "ours", "records.csv"))
        last = where(records, checkpoint="last", split="test")
        scores[name] = [row.score / 100 for row in sorted(last, key=lambda row: row.seed)]
        report(
            {
                "accuracy": {way: statistics.mean(values) for way, values in scores.items()},
                "differences": {f"{a}, {b}": noise(scores[a], scores[b]) for a, b in pairs(scores)},
            }
        )


def noise(one: list[float], other: list[float]) -> dict[str, Any]:
    """The mean difference over seeds, its standard error, and whether chance explains it."""
    gaps = [a - b for a, b in zip(one, other, strict=True)]
    mean, error = statistics.mean(gaps), statistics.stdev(gaps) / len(gaps) ** 0.5
    return {"mean": mean, "standard_error": error, "agree": abs(mean) <= NOISE * error}


# Memory and speed.


def memory(sizes: Sizes, report: Report) -> None:
    """Bytes of tables under vmap: as a compiled program says, and as the device counted."""
    recipe, work, params = made_up(sizes.words, SHAPES[sizes.shape])
    mask, device = full_mask(params), jax.devices()[0]
    predicted = footprint(device, "vmap", recipe, work, params, mask)
    found: dict[str, Any] = {}
    for rows in sizes.memory:
        before = _peak(device)
        replicate = Replicate(lambda: Start(params, mask), 0, LEARNING_RATE)
        calls = itertools.count()
        hooks = Hooks(stop=lambda calls=calls: next(calls) > 1)  # type: ignore[misc]
        trainer = Trainer(Engine("vmap", (device,), rows), recipe, work)
        with contextlib.suppress(Stopped):
            list(trainer.train([replicate] * rows, hooks=hooks))
        peak = _peak(device)
        found[str(rows)] = {
            "predicted": predicted.shared + rows * predicted.per_row,
            # A peak below that of something before it says nothing.
            "measured": None if peak is None or peak == before else peak,
        }
        report(found)


def _peak(device: jax.Device) -> int | None:
    stats: dict[str, Any] = device.memory_stats() or {}
    return stats.get("peak_bytes_in_use")


def one_program(sizes: Sizes, rows: int) -> Callable[[], None]:
    """A call that trains so many rows for some steps."""
    engine = Engine("vmap", (jax.devices()[0],), rows)
    shape = SHAPES[sizes.shape]
    return in_jax(BiLSTMClassifier, shape, engine, sizes.steps, words=sizes.words)


def throughput(sizes: Sizes, report: Report) -> None:
    """Rows of one program against row-steps per second."""
    found: dict[str, Any] = {}
    for rows in sizes.rows:
        try:
            call = one_program(sizes, rows)
            (seconds,) = timing.interleave({"ours": call}, rounds=sizes.rounds).values()
        except RuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            report({**found, str(rows): "does not fit"})
            return
        work = rows_of(rows) * sizes.steps
        found[str(rows)] = timing.summary([work / s for s in seconds])
        report(found)


def rows_of(rows: int) -> int:
    """Rows that a call of `in_jax` trains: small slices several times."""
    return max(rows, 8 // rows * rows)


def cudnn(sizes: Sizes, report: Report) -> None:
    """Replicates as one program against PyTorch's cuDNN LSTM, one after another."""
    if importlib.util.find_spec("torch") is None:
        report({"skipped": "PyTorch is not installed"})
        return
    asked = [sys.executable, "-c", "import torch; print(torch.cuda.is_available())"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    if said.strip() != "True" or jax.devices()[0].platform == "cpu":
        report({"skipped": "PyTorch or JAX finds no CUDA device here"})
        return
    worker = torch_workers(sizes.shape, 1, 1, ["cuda", str(sizes.words)])
    rows, steps = sizes.replicates, sizes.steps
    try:
        contestants = {"ours": one_program(sizes, rows), "cuDNN": lambda: worker.run(20 * steps)}
        seconds = timing.interleave(contestants, rounds=sizes.rounds)
    finally:
        worker.close()
    mine = [s / (rows_of(rows) * steps) for s in seconds["ours"]]
    theirs = [s / (20 * steps) for s in seconds["cuDNN"]]
    report(
        {
            "replicates": rows,
            "milliseconds_per_step": {
                "ours": timing.summary([1e3 * s for s in mine]),
                "cuDNN": timing.summary([1e3 * s for s in theirs]),
            },
            "ratio": timing.ratios(theirs, mine),
        }
    )


def loop(sizes: Sizes, report: Report, unroll: int) -> None:
    """The same program with so many steps of the time loop in one iteration."""
    lstm.UNROLL = unroll
    started = time.perf_counter()
    call = one_program(sizes, sizes.replicates)
    compiled = time.perf_counter() - started
    (seconds,) = timing.interleave({"ours": call}, rounds=sizes.rounds).values()
    work = rows_of(sizes.replicates) * sizes.steps
    each = timing.summary([1e3 * s / work for s in seconds])
    report({"milliseconds_per_step": each, "seconds_to_compile": compiled})


# Whole experiments.


def experiments(sizes: Sizes, report: Report, data_file: str | None) -> None:
    """Quickstart and tweets, from the command to the report, with nothing compiled before."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        tweets = Path(data_file).absolute() if data_file else directory / "tweets.csv"
        if not data_file:
            write_tweets(tweets)
        for question, settings, file in (
            ("quickstart", QUICKSTART, None),
            ("tweets", QUESTIONS["tweets"], str(tweets)),
        ):
            work = directory / question
            work.mkdir()
            run = run_ours({**settings, **sizes.changes}, file, work)
            found[question] = {n: run[n] for n in ("seconds", "spent", "accuracy")}
            report({**found, "tweets_made_up": data_file is None})


def write_tweets(path: Path) -> None:
    """As many made-up sentences as there are tweets, under their names of columns."""
    texts, labels = synthetic.generate(TWEETS_IN_ALL, 0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Text", "Sentiment"])
        writer.writerows(zip(texts, (2 * labels - 1).tolist(), strict=True))
