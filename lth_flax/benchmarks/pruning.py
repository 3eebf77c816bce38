"""Pruning a network of 34 million weights to one level: seconds, and the process's peak memory.

  python -m lth_flax.benchmarks.pruning --json=experiments/benchmarks/pruning.json

Two layers of 1,024 units per direction, scored by magnitude, 90% removed, ranked over the whole
network, as one row of the engine does it: jitted, on one core.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

import resource
import sys
import time

import jax
import jax.numpy as jnp

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing
from lth_flax.benchmarks.shapes import CLASSES, WORDS
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.training.host import prepare_cpu
from lth_flax.types import Mask, Params

FEATURES, HIDDEN, LAYERS, SPARSITY = 100, 1024, 2, 0.9


def main() -> None:
    parser = timing.parser(__doc__, rounds=7)
    parser.add_argument("--hidden_size", type=int, default=HIDDEN)
    arguments = parser.parse_args()
    prepare_cpu(1)
    model = BiLSTMClassifier(WORDS, FEATURES, arguments.hidden_size, CLASSES, LAYERS)
    tokens, lengths = jnp.zeros((1, 2), int), jnp.full(1, 2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, lengths)["params"]
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(shapes))))
    params = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), shapes)
    mask = jax.tree.map(jnp.asarray, full_mask(params))

    @jax.jit
    def pruned(params: Params, mask: Mask) -> Mask:
        return prune(magnitude(params), mask, sparsity=SPARSITY)

    started = time.perf_counter()
    jax.block_until_ready(pruned(params, mask))
    first = time.perf_counter() - started
    again = timing.interleave(
        {"pruning": lambda: jax.block_until_ready(pruned(params, mask))}, rounds=arguments.rounds
    )["pruning"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {
        "weights": sum(leaf.size for leaf in jax.tree.leaves(mask) if leaf.ndim),
        "first_seconds": first,
        "seconds": timing.summary(again),
        "peak_bytes": peak * (1 if sys.platform == "darwin" else 1024),
    }
    rows = [["weights", "with compilation, s", "again, s", "peak MB"]]
    cells = f"{first:.2f}", f"{found['seconds']['median']:.2f}", f"{found['peak_bytes'] / 1e6:.0f}"
    rows.append([f"{found['weights']:,}", *cells])
    print(aligned(rows))
    timing.write_result(arguments.json, {"machine": timing.describe_machine(), **found})


if __name__ == "__main__":
    main()
