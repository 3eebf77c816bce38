"""Milliseconds per text and per training step of tickets: dense, compact, and in PyTorch.

  python -m lth_flax.benchmarks.inference --run=runs/structured_tweets \\
      --json=experiments/structured_tweets/inference.json

For every ticket of a run: a network of full width with its weights, the compact one, and both as
`export` hands them to PyTorch. All take turns, answers are compared before anything is timed, and
numbers are per level, over seeds. Needs the extra `export`.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import torch
from safetensors.torch import load_file

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing
from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.tickets import Ticket, load_ticket
from lth_flax.tickets.compaction import compact_ticket, sizes
from lth_flax.tickets.export import export_ticket, network_of
from lth_flax.training.classification import make_loss
from lth_flax.training.host import prepare_cpu
from lth_flax.training.optimizers import keep_pruned
from lth_flax.types import Mask, Params

LEAST_WORDS, MOST_WORDS = 5, 40
"""Lengths of texts are drawn between them, as those of tweets are."""


def batch(words: int, classes: int, texts: int) -> dict[str, np.ndarray]:
    """Random texts of random lengths."""
    rng = np.random.default_rng(0)
    return {
        "tokens": rng.integers(words, size=(texts, MOST_WORDS)).astype(np.int32),
        "lengths": rng.integers(LEAST_WORDS, MOST_WORDS + 1, texts).astype(np.int32),
        "labels": rng.integers(classes, size=texts).astype(np.int32),
        "weight": np.ones(texts, np.float32),
    }


def in_jax(
    model: BiLSTMClassifier, params: Params, given: dict[str, np.ndarray]
) -> Callable[[], Any]:
    """A call that classifies the texts."""
    apply = jax.jit(model.apply)
    texts = jax.device_put((given["tokens"], given["lengths"]))
    variables = jax.device_put({"params": params})
    return lambda: np.asarray(apply(variables, *texts))


def training_step(
    model: BiLSTMClassifier, params: Params, mask: Mask, given: dict[str, np.ndarray]
) -> Callable[[], None]:
    """A call that takes one step of Adam under the mask, with clipping and dropout."""
    optimizer = keep_pruned(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3)), mask)
    gradient = jax.grad(make_loss(model))

    @jax.jit
    def step(params: Params, state: Any, given: Any, key: jax.Array) -> tuple[Params, Any]:
        updates, state = optimizer.update(gradient(params, given, key), state, params)
        return optax.apply_updates(params, updates), state

    key, data = jax.random.key(0), jax.device_put(given)
    now = [(params, jax.jit(optimizer.init)(params))]

    def call() -> None:
        now[0] = jax.block_until_ready(step(*now[0], data, key))

    return call


def in_torch(ticket: Ticket, given: dict[str, np.ndarray], *, compacted: bool) -> Callable[[], Any]:
    """A call that classifies the texts by what `export` writes for PyTorch."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        export_ticket(ticket, directory, format="torch", compacted=compacted)
        module: dict[str, Any] = {}
        exec((directory / "classifier.py").read_text(encoding="utf-8"), module)
        model = module["Classifier"]().eval()
        model.load_state_dict(load_file(directory / "weights.safetensors"), strict=True)
    torch.set_num_threads(1)  # as JAX here: one core
    tokens, lengths = (torch.tensor(given[n].astype(np.int64)) for n in ("tokens", "lengths"))

    def call() -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(model(tokens, lengths).numpy())

    return call


def measure(ticket: Ticket, *, texts: int, rounds: int) -> dict[str, Any]:
    """One ticket: sizes, and milliseconds per text and per training step, in turns.

    Raises:
      UserError: two contestants do not give the same answers.
    """
    model = ticket.model
    given = batch(model.vocabulary_size, model.num_classes, texts)
    after = network_of(ticket, compacted=True)
    classify: dict[str, Callable[[], Any]] = {
        "classify, dense": in_jax(model, ticket.trained_params, given),
        "classify, compact": in_jax(after.model, after.params, given),
        "classify, torch dense": in_torch(ticket, given, compacted=False),
        "classify, torch compact": in_torch(ticket, given, compacted=True),
    }
    expected = classify["classify, dense"]()
    for name, call in classify.items():
        if not np.allclose(call(), expected, atol=1e-4):
            raise UserError(f"{name} gives other answers than the dense network: nothing is timed")
    small, start = compact_ticket(ticket), ticket.initial_params
    train = {
        "train, dense": training_step(model, start, full_mask(start), given),
        "train, compact": training_step(small.model, small.initial_params, small.mask, given),
    }
    seconds = timing.interleave({**classify, **train}, rounds=rounds)
    one, two = sizes(model), sizes(after.model)
    return {
        "units": [list(pair) for pair in after.model.widths],
        "features": two.features,
        "parameters": [one.parameters, two.parameters],
        "network_parameters": [one.network_parameters, two.network_parameters],
        "operations_per_word": [one.operations, two.operations],
        "milliseconds": {
            name: timing.summary(
                [1e3 * s / (texts if name.startswith("classify") else 1) for s in values]
            )
            for name, values in seconds.items()
        },
        "times_faster": {
            what: timing.ratios(seconds[f"{what}, dense"], seconds[f"{what}, compact"])
            for what in ("classify", "train")
        },
    }


def tickets_of(run: Path) -> dict[str, list[Path]]:
    """Level -> the ticket of every seed.

    Raises:
      UserError: there are none.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(run.glob("tickets/**/level_*/ticket.json")):
        found.setdefault(path.parent.name.removeprefix("level_"), []).append(path.parent)
    if not found:
        raise UserError(f"{run} holds no tickets: give the work directory of winning_ticket")
    return dict(sorted(found.items(), key=lambda item: float(item[0])))


def as_table(levels: dict[str, Sequence[dict[str, Any]]]) -> str:
    """A row per level: medians over seeds."""

    def middle(found: Sequence[dict[str, Any]], what: str, name: str) -> float:
        return statistics.median(one[what][name]["median"] for one in found)

    contestants = list(next(iter(levels.values()))[0]["milliseconds"])
    rows = [["level", "parameters", *(f"{c} [ms]" for c in contestants), "classify", "train"]]
    for level, found in levels.items():
        rows.append(
            [
                level,
                f"{statistics.median(one['parameters'][1] for one in found):,.0f}",
                *(f"{middle(found, 'milliseconds', name):.4f}" for name in contestants),
                *(f"{middle(found, 'times_faster', what):.1f} x" for what in ("classify", "train")),
            ]
        )
    return aligned(rows)


def main() -> None:
    parser = timing.parser(__doc__, rounds=31)
    parser.add_argument("--run", required=True, help="work directory of winning_ticket")
    parser.add_argument("--texts", type=int, default=64, help="texts of a call")
    arguments = parser.parse_args()
    prepare_cpu(1)
    jax.config.update("jax_default_matmul_precision", "highest")
    levels: dict[str, Sequence[dict[str, Any]]] = {}
    try:
        for level, paths in tickets_of(Path(arguments.run)).items():
            levels[level] = [
                measure(load_ticket(path), texts=arguments.texts, rounds=arguments.rounds)
                for path in paths
            ]
            print(as_table(levels), flush=True)
    except UserError as error:
        raise SystemExit(f"error: {error}") from None
    timing.write_result(
        arguments.json,
        {
            "machine": timing.describe_machine(),
            "texts": arguments.texts,
            "words": [LEAST_WORDS, MOST_WORDS],
            "levels": levels,
        },
    )


if __name__ == "__main__":
    main()
