"""A whole figure-3 experiment, from the command to the report: ours and a PyTorch script.

  python -m lth_flax.benchmarks.experiment --data_file=stock_sentiment.csv --rounds=2 \\
      --json=experiments/benchmarks/experiment_tweets.json
  python -m lth_flax.benchmarks.experiment --data_dir=DIR \\
      --json=experiments/benchmarks/experiment_reviews.json

Tweets: 8 seeds, 6 levels, ticket and reinit, 3 epochs. Reviews: 2,000 of IMDB at
full length, 4 seeds, 3 levels, 1 epoch: speed is asked here, not accuracy. Ours
is timed with an empty compilation cache, so that compilation counts. PyTorch
runs one process per core. Needs the extra `bench`.
"""

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing
from lth_flax.config import Config
from lth_flax.cores import cores_here
from lth_flax.data.sources import load_source

REVIEWS = 2000

COMMON = {"hidden_size": 32, "num_layers": 2, "max_shapes": 8, "min_count": 2}
QUESTIONS: dict[str, dict[str, Any]] = {
    "tweets": {
        **COMMON, "dataset": "financial_tweets", "num_seeds": 8,
        "levels": [0.2, 0.5, 0.7, 0.8, 0.9, 0.95], "embedding_size": 100, "dropout": 0.6,
        "batch_size": 50, "learning_rate": 0.002, "epochs": 3, "max_shapes": 3,
    },
    "reviews": {
        **COMMON, "dataset": "csv", "num_seeds": 4, "levels": [0.5, 0.8, 0.9],
        "embedding_size": 64, "dropout": 0.5, "batch_size": 32, "learning_rate": 0.003,
        "epochs": 1,
    },
}  # fmt: skip
SPLIT = {"validation_share": 0.1, "test_share": 0.2}
VOCABULARY = 10_000


def write_reviews(path: Path, data_dir: str) -> None:
    """2,000 reviews of IMDB's train split, drawn once."""
    source = load_source(Config(dataset="imdb_reviews", data_dir=data_dir))
    chosen = np.random.default_rng(0).permutation(25_000)[:REVIEWS]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows((source.texts[n], source.class_names[source.labels[n]]) for n in chosen)


def of_data(question: Mapping[str, Any], data_file: str | None) -> dict[str, Any]:
    """The settings that say which texts are read, and how they are split."""
    found = {"dataset": question["dataset"], "vocabulary_size": VOCABULARY, **SPLIT}
    if data_file:
        found["data_file"] = data_file
    if question["dataset"] == "csv":
        found |= {"text_column": "text", "label_column": "label"}
    return found


def run_ours(question: Mapping[str, Any], data_file: str | None, work: Path) -> dict[str, Any]:
    """Seconds of the command, what they were spent on, and the accuracies."""
    run = timing.winning_ticket(
        {
            **question,
            **of_data(question, data_file),
            "levels": ",".join(map(str, question["levels"])),
            "work_dir": str(work / "ours"),
            "cache_dir": str(work / "cache"),
        }
    )
    summary = json.loads((work / "ours" / "summary.json").read_text(encoding="utf-8"))
    rows = summary["configurations"][0]["checkpoints"]["last"]["table"]
    return {
        "seconds": run["seconds"],
        "spent": run["provenance"]["seconds"],
        "padding_share": run["provenance"]["data"]["padding_share"],
        "accuracy": {
            name_of(row["arm"], row["target_sparsity"]): row["score"]["mean"] / 100 for row in rows
        },
    }


def name_of(arm: str, level: float) -> str:
    return "dense" if arm == "dense" else f"{arm} {level:g}"


def run_torch(
    question: dict[str, Any], data_file: str, work: Path, *, processes: int
) -> dict[str, Any]:
    """Seconds until the last process has ended, and the accuracies."""
    data = of_data(question, data_file)
    data |= {name: question[name] for name in ("min_count", "max_shapes", "batch_size")}
    specification = work / "specification.json"
    specification.write_text(json.dumps({**question, "data": data}))
    command = [sys.executable, "-m", "lth_flax.benchmarks.torch_experiment", str(specification)]
    started = time.perf_counter()
    running = [
        subprocess.Popen(
            command + [str(seed) for seed in range(first, question["num_seeds"], processes)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for first in range(processes)
    ]
    found: dict[str, dict[str, float]] = {}
    for process in running:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit("error: a PyTorch process failed: is the extra `bench` installed?")
        found |= json.loads(output)
    seconds = time.perf_counter() - started
    names = next(iter(found.values()))
    return {
        "seconds": seconds,
        "accuracy": {
            name: statistics.mean(by_name[name] for by_name in found.values()) for name in names
        },
    }


def measure(name: str, data_file: str, *, rounds: int, cores: int) -> dict[str, Any]:
    """Both, in turns."""
    question = QUESTIONS[name]
    mine, theirs = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as directory:
            mine.append(run_ours(question, data_file, Path(directory)))
            theirs.append(run_torch(question, data_file, Path(directory), processes=cores))
    seeds = question["num_seeds"]
    return {
        "question": question,
        "networks": seeds * (1 + 2 * len(question["levels"])),
        "seconds_per_seed": {
            "ours": timing.summary([run["seconds"] / seeds for run in mine]),
            "torch": timing.summary([run["seconds"] / seeds for run in theirs]),
        },
        "ratio": timing.ratios([r["seconds"] for r in theirs], [r["seconds"] for r in mine]),
        "ours_spent": mine[-1]["spent"],
        "padding_share": mine[-1]["padding_share"],
        "accuracy": {"ours": mine[-1]["accuracy"], "torch": theirs[-1]["accuracy"]},
    }


def main() -> None:
    parser = timing.parser(__doc__, rounds=1)
    parser.add_argument("--data_file", help="the tweets' CSV; without it they are left out")
    parser.add_argument("--data_dir", help="TFDS with imdb_reviews; without it they are left out")
    arguments = parser.parse_args()
    cores = cores_here()
    found = {}
    with tempfile.TemporaryDirectory() as directory:
        files = {"tweets": arguments.data_file}
        if arguments.data_dir:
            files["reviews"] = str(Path(directory) / "reviews.csv")
            write_reviews(Path(files["reviews"]), arguments.data_dir)
        for name, file in files.items():
            if file:
                path = str(Path(file).absolute())
                found[name] = measure(name, path, rounds=arguments.rounds, cores=cores)
                print(as_table(name, found[name]), flush=True)
    timing.write_result(
        arguments.json, {"machine": timing.describe_machine(), "experiments": found}
    )


def as_table(name: str, found: dict[str, Any]) -> str:
    seconds, ratio = found["seconds_per_seed"], found["ratio"]["median"]
    accuracy = found["accuracy"]
    rows = [[f"{name}, {found['networks']} networks", "seconds per seed", "times ours", "dense"]]
    for who in ("ours", "torch"):
        times = f"{ratio:.2f}" if who == "torch" else ""
        rows.append([who, f"{seconds[who]['median']:.1f}", times, f"{accuracy[who]['dense']:.1%}"])
    return aligned(rows) + "\n"


if __name__ == "__main__":
    main()
