"""A process that trains rows of the tweets shape on so many devices, each pinned to a core.

Started by `scaling`. Reads a number of calls from standard input, line by line,
and answers with one line when they are done.
"""

import os
import sys

import jax

from lth_flax.benchmarks.shapes import TWEETS
from lth_flax.benchmarks.train_step import in_jax
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.training.host import prepare_cpu
from lth_flax.training.replicates import Engine

STEPS = 2


def main() -> None:
    number = int(sys.argv[1])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:number])
    prepare_cpu(number)
    jax.config.update("jax_default_matmul_precision", "highest")
    devices = tuple(jax.devices())
    call = in_jax(BiLSTMClassifier, TWEETS, Engine("map", devices, len(devices)), STEPS)
    for line in sys.stdin:
        for _ in range(int(line)):
            call()
        print("done", flush=True)


if __name__ == "__main__":
    main()
