"""What the embedding costs: a training step with it trained, and with it frozen.

  python -m lth_flax.benchmarks.embedding_share --json=experiments/benchmarks/embedding_share.json

Frozen, a step has no scatter of the table's gradient, no part of it in the norm
of the gradient and no Adam for it; nor the gradient of the first layer's inputs,
so the share is an upper bound. The tweets shape, tables of several sizes.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

from typing import Any

import jax

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing
from lth_flax.benchmarks.shapes import TWEETS
from lth_flax.benchmarks.train_step import REPLICATES, in_jax
from lth_flax.cores import cores_here
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.training.host import prepare_cpu
from lth_flax.training.replicates import Engine

STEPS = 2
WORDS = (1_000, 5_000, 10_000, 20_000)


def main() -> None:
    parser = timing.parser(__doc__, rounds=7)
    arguments = parser.parse_args()
    prepare_cpu(cores_here())
    jax.config.update("jax_default_matmul_precision", "highest")
    devices = tuple(jax.devices())
    engine = Engine("map", devices, len(devices))
    contestants = {
        f"{words} {'frozen' if frozen else 'trained'}": in_jax(
            BiLSTMClassifier, TWEETS, engine, STEPS, words=words, frozen=frozen
        )
        for words in WORDS
        for frozen in (False, True)
    }
    seconds = timing.interleave(contestants, rounds=arguments.rounds)
    found: dict[str, Any] = {}
    rows = [["words x 100", "trained, ms", "frozen, ms", "share of the embedding"]]
    for words in WORDS:
        trained, frozen = (seconds[f"{words} {kind}"] for kind in ("trained", "frozen"))
        scale = 1e3 / (REPLICATES * STEPS)
        share = timing.summary([1 - f / t for t, f in zip(trained, frozen, strict=True)])
        ms = [timing.summary([scale * s for s in values]) for values in (trained, frozen)]
        found[str(words)] = {"trained_ms": ms[0], "frozen_ms": ms[1], "share": share}
        cells = [f"{m['median']:.2f}" for m in ms]
        rows.append([f"{words:,}", *cells, f"{share['median']:.0%}"])
    print(aligned(rows))
    timing.write_result(
        arguments.json, {"machine": timing.describe_machine(), "shape": str(TWEETS), "words": found}
    )


if __name__ == "__main__":
    main()
