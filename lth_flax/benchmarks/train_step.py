"""Milliseconds per training step and replicate: ours, Flax's `nn.RNN` and PyTorch's `nn.LSTM`.

  python -m lth_flax.benchmarks.train_step --json=experiments/benchmarks/train_step.json

The same network, masks, dropout, gradient clipping and Adam everywhere; 8
replicates. Contestants take turns in one run. Needs the extra `bench`.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import shapes, timing
from lth_flax.benchmarks.shapes import SHAPES, Shape
from lth_flax.cores import cores_here
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.training.classification import make_loss, make_predict
from lth_flax.training.host import prepare_cpu
from lth_flax.training.optimizers import make_optimizer, make_schedule
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe, Row, initial_state, train_steps
from lth_flax.types import Params

REPLICATES = 8


class FlaxClassifier(nn.Module):
    """The same classifier from Flax's own parts: `nn.RNN` over `nn.OptimizedLSTMCell`."""

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch time"],
        lengths: Int[Array, " batch"],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "batch classes"]:
        states = nn.Embed(self.vocabulary_size, self.embedding_size, name="embedding")(tokens)
        finals: list[Array] = []
        for layer in range(self.num_layers):
            if layer:
                dropout = nn.Dropout(self.dropout, broadcast_dims=(1,))
                states = dropout(states, deterministic=deterministic)
            outputs, finals = [], []
            for reverse in (False, True):
                rnn = nn.RNN(
                    nn.OptimizedLSTMCell(self.hidden_size),
                    reverse=reverse,
                    keep_order=True,
                    return_carry=True,
                    name=f"lstm_{layer}_{'backward' if reverse else 'forward'}",
                )
                (_, final), output = rnn(states, seq_lengths=lengths)
                outputs.append(output)
                finals.append(final)
            states = jnp.concatenate(outputs, axis=-1)
        final = jnp.concatenate(finals, axis=-1)
        final = nn.Dropout(self.dropout)(final, deterministic=deterministic)
        return nn.Dense(self.num_classes, name="head")(final)


def start_of(
    model_type: Any, shape: Shape, words: int, *, frozen: bool = False
) -> tuple[Recipe, Params]:
    """How a classifier of some shape is trained, and its parameters on the host."""
    model = model_type(
        words, shape.features, shape.hidden, shape.layers, shapes.CLASSES, shapes.DROPOUT
    )
    without = (lambda path: "embedding" in path) if frozen else None
    optimizer = make_optimizer("adam", clip_norm=shapes.CLIP_NORM, frozen=without)
    schedule = make_schedule("constant", total_steps=1)
    with jax.default_device(jax.devices("cpu")[0]):  # a GPU would compile for minutes
        tokens, lengths = np.zeros((1, 1), np.int32), np.ones(1, np.int32)
        params = jax.jit(model.init)(jax.random.key(0), tokens, lengths)["params"]
    recipe = Recipe(make_loss(model), make_predict(model), optimizer, schedule)
    return recipe, jax.device_get(params)


def in_jax(
    model_type: Any,
    shape: Shape,
    engine: Engine,
    steps: int,
    *,
    words: int = shapes.WORDS,
    frozen: bool = False,
) -> Callable[[], None]:
    """A call that trains `REPLICATES` rows for `steps` steps, with the project's own engine.

    An engine of more rows trains all of them. `frozen` embeddings get no gradient and no update.
    """
    rng = np.random.default_rng(0)
    examples = engine.place_shared(
        {
            "tokens": rng.integers(words, size=(shape.batch, shape.length)).astype(np.int32),
            "lengths": np.full(shape.batch, shape.length, np.int32),
            "labels": rng.integers(shapes.CLASSES, size=shape.batch).astype(np.int32),
        }
    )
    recipe, params = start_of(model_type, shape, words, frozen=frozen)
    with jax.default_device(jax.devices("cpu")[0]):
        mask = prune(magnitude(params), full_mask(params), sparsity=shapes.SPARSITY)
    mask = jax.device_get(mask)
    rows = engine.rows
    fixed = Row(
        engine.place_rows([jax.random.key(0)] * rows),
        engine.place_stacked(np.full(rows, shapes.LEARNING_RATE, np.float32)),
    )
    start = engine.lift(partial(initial_state, recipe))
    train = engine.lift(partial(train_steps, recipe), donate=True)
    begin = engine.place_stacked(np.zeros(rows, np.int32))
    masks = engine.place_rows([mask] * rows)
    state = [start(engine.place_rows([params] * rows), (masks, fixed, begin), ())]
    order = np.broadcast_to(np.arange(shape.batch, dtype=np.int32), (rows, steps, shape.batch))
    indices = engine.place_stacked(np.ascontiguousarray(order))
    zero = engine.place_stacked(np.zeros(rows, np.float32))
    shared = (examples, np.int32(0), np.int32(steps))

    def call() -> None:
        for _ in range(max(1, REPLICATES // rows)):
            state[0], loss = train(state[0], (fixed, zero, indices), shared)
            loss.block_until_ready()

    call()  # compiles
    return call


def torch_workers(
    shape: str, processes: int, threads: int, more: Sequence[str] = ()
) -> timing.Workers:
    """PyTorch processes that train at the same time, each with its own threads.

    `more` are the arguments of `torch_model` that may be left out.
    """
    return timing.Workers(
        "torch_model",
        [[shape, str(threads), *more]] * processes,
        env={"OMP_NUM_THREADS": str(threads)},
        needs="is the extra `bench` installed?",
    )


def measure(name: str, *, rounds: int, cores: int) -> dict[str, Any]:
    """All contestants on one shape."""
    shape = SHAPES[name]
    steps = max(1, min(40, round(2e9 / shape.flops)))
    devices = tuple(jax.devices())
    engine = Engine("map", devices, len(devices))
    product, product_flops = timing.matrix_product()
    each = REPLICATES // cores * steps
    with (
        contextlib.closing(torch_workers(name, cores, 1)) as per_core,
        contextlib.closing(torch_workers(name, 1, cores)) as all_cores,
    ):
        seconds = timing.interleave(
            {
                "ours": in_jax(BiLSTMClassifier, shape, engine, steps),
                "flax": in_jax(FlaxClassifier, shape, engine, steps),
                "torch, one process per core": lambda: per_core.run(each),
                "torch, one process": lambda: all_cores.run(REPLICATES * steps),
                "product": product,
            },
            rounds=rounds,
        )
    rate = [product_flops / s for s in seconds.pop("product")]
    mine = seconds["ours"]
    work = REPLICATES * steps * shape.flops
    return {
        "shape": dict(shape._asdict()),
        "steps_per_call": steps,
        "milliseconds": {
            who: timing.summary([1e3 * s / (REPLICATES * steps) for s in values])
            for who, values in seconds.items()
        },
        "ratio": {
            who: timing.ratios(values, mine) for who, values in seconds.items() if who != "ours"
        },
        "matrix_product_gflops": timing.summary([r / 1e9 for r in rate]),
        "share_of_matrix_product": timing.summary(
            [work / s / r for s, r in zip(mine, rate, strict=True)]
        ),
    }


def main() -> None:
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument(
        "--shapes", default="tweets,small,large,reviews", help="some of them, by name"
    )
    parser.add_argument("--plain_xla", action="store_true", help="without our flags of XLA")
    arguments = parser.parse_args()
    names = arguments.shapes.split(",")
    if unknown := sorted(set(names) - set(SHAPES)):
        parser.error(f"--shapes={unknown[0]}: expected some of {','.join(SHAPES)}")
    cores = cores_here()
    if arguments.plain_xla:
        jax.config.update("jax_num_cpu_devices", cores)
    else:
        prepare_cpu(cores)
    jax.config.update("jax_default_matmul_precision", "highest")
    found = {}
    for name in names:
        found[name] = measure(name, rounds=arguments.rounds, cores=cores)
        print(as_table(name, found[name]), flush=True)
    timing.write_result(arguments.json, {"machine": timing.describe_machine(), "shapes": found})


def as_table(name: str, found: dict[str, Any]) -> str:
    rows = [[f"{name} {SHAPES[name]}", "ms per step", "range", "times ours"]]
    for who, ms in found["milliseconds"].items():
        ratio = found["ratio"].get(who)
        times = f"{ratio['median']:.2f}" if ratio else ""
        spread = f"{ms['least']:.2f} to {ms['most']:.2f}"
        rows.append([who, f"{ms['median']:.2f}", spread, times])
    share = found["share_of_matrix_product"]["median"]
    rate = found["matrix_product_gflops"]["median"]
    return f"{aligned(rows)}\n{share:.0%} of the {rate:.0f} GFLOP/s of a matrix product\n"


if __name__ == "__main__":
    main()
