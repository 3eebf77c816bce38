"""Rows per second on one core and on more, and what a row takes of memory.

  python -m lth_flax.benchmarks.scaling --json=experiments/benchmarks/scaling.json

The tweets shape; a process with one device pinned to one core against one with a
device on each of N cores, in turns. Rows do not talk to each other, so what is
lost between cores is shared memory and caches. Bytes per row are those of the
compiled program (`training.memory`), for cores and for accelerators alike.
"""

import lth_flax.jax_import  # noqa: F401, I001  (before JAX, whose refusals it says)

import contextlib
import os
from functools import partial
from typing import Any

import jax
import numpy as np

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing
from lth_flax.benchmarks.shapes import TWEETS, WORDS, Shape, serve
from lth_flax.benchmarks.train_step import REPLICATES, in_jax, start_of
from lth_flax.cores import cores_here
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.training.host import prepare_cpu
from lth_flax.training.memory import Footprint, footprint
from lth_flax.training.programs import Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe
from lth_flax.types import Params

STEPS = 2
TWEETS_IN_ALL = 5791


def made_up(words: int, shape: Shape = TWEETS) -> tuple[Recipe, Workload, Params]:
    """As many texts as there are tweets, and a network with `words` rows of embedding."""
    recipe, params = start_of(BiLSTMClassifier, shape, words)
    examples = {
        "tokens": np.zeros((TWEETS_IN_ALL, shape.length), np.int32),
        "lengths": np.zeros(TWEETS_IN_ALL, np.int32),
        "labels": np.zeros(TWEETS_IN_ALL, np.int32),
    }
    scored = np.arange(shape.batch)
    members = {
        0: {"train": (np.arange(TWEETS_IN_ALL),), "validation": (scored,), "test": (scored,)}
    }
    return recipe, Workload((examples,), members, 1, shape.batch, (shape.batch,)), params


def bytes_of_a_row(words: int, shape: Shape = TWEETS) -> Footprint:
    """Under `vmap`."""
    recipe, work, params = made_up(words, shape)
    return footprint(jax.devices()[0], "vmap", recipe, work, params, full_mask(params))


def work_on(number: int) -> None:
    """Trains rows of the tweets shape on so many devices, each pinned to a core, when told to."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])
    prepare_cpu(number)
    jax.config.update("jax_default_matmul_precision", "highest")
    devices = tuple(jax.devices())
    call = in_jax(BiLSTMClassifier, TWEETS, Engine("map", devices, len(devices)), STEPS)
    serve(call)


def main() -> None:
    parser = timing.parser(__doc__, rounds=9)
    parser.add_argument("--worker", type=int, metavar="CORES", help="be one, on so many cores")
    arguments = parser.parse_args()
    if arguments.worker:
        work_on(arguments.worker)
        return
    prepare_cpu(1)
    numbers = sorted({1, cores_here()})
    with contextlib.ExitStack() as stack:
        contestants = {}
        for number in numbers:
            worker = timing.Workers("scaling", [[f"--worker={number}"]])
            stack.callback(worker.close)
            contestants[str(number)] = partial(worker.run, 1)
        seconds = timing.interleave(contestants, rounds=arguments.rounds)
    work = REPLICATES * STEPS
    rates = {name: timing.summary([work / s for s in values]) for name, values in seconds.items()}
    scaling = timing.ratios(seconds["1"], seconds[str(numbers[-1])])
    rows = [["devices, a core each", "row-steps per second", "range", "times one"]]
    for name, rate in rates.items():
        times = "" if name == "1" else f"{scaling['median']:.2f}"
        spread = f"{rate['least']:.1f} to {rate['most']:.1f}"
        rows.append([name, f"{rate['median']:.1f}", spread, times])
    print(aligned(rows))
    memory: dict[str, Any] = {}
    for words in (WORDS, 10_000):
        found = bytes_of_a_row(words)
        memory[str(words)] = found._asdict()
        print(f"{words:,} words: {found.per_row / 2**20:.1f} MiB per row, "
              f"{found.shared / 2**20:.1f} MiB shared")  # fmt: skip
    timing.write_result(
        arguments.json,
        {
            "machine": timing.describe_machine(),
            "shape": str(TWEETS),
            "row_steps_per_second": rates,
            "scaling": scaling,
            "memory": memory,
        },
    )


if __name__ == "__main__":
    main()
