"""What is timed: shapes of a training step, and the work in one."""

import sys
from collections.abc import Callable
from typing import NamedTuple


class Shape(NamedTuple):
    """A training step: `batch` texts of `length` tokens, `features` numbers per word."""

    batch: int
    length: int
    features: int
    hidden: int
    layers: int

    def __str__(self) -> str:
        return "x".join(map(str, self))

    @property
    def flops(self) -> float:
        """Of the matrix products of the LSTM layers: forward once, backward twice."""
        inputs = [self.features] + [2 * self.hidden] * (self.layers - 1)
        weights = sum(2 * 4 * self.hidden * (size + self.hidden) for size in inputs)
        return 6.0 * weights * self.batch * self.length


TWEETS = Shape(50, 40, 100, 32, 4)
SMALL = Shape(32, 32, 100, 32, 2)
LARGE = Shape(64, 256, 128, 128, 2)
REVIEWS = Shape(64, 128, 64, 32, 2)
TINY = Shape(4, 5, 3, 2, 1)
"""For tests."""

SHAPES = {"tweets": TWEETS, "small": SMALL, "large": LARGE, "reviews": REVIEWS, "tiny": TINY}

WORDS = 1000
"""Rows of the embedding: small, so that the step is about the LSTM."""

CLASSES = 2
DROPOUT = 0.5
SPARSITY = 0.8
LEARNING_RATE = 1e-3
CLIP_NORM = 1.0


def serve(work: Callable[[], object], wait: Callable[[], object] | None = None) -> None:
    """What a worker does: as much work as each line of standard input says, then an answer.

    `wait` returns when a device has done all of it.
    """
    for line in sys.stdin:
        for _ in range(int(line)):
            work()
        if wait is not None:
            wait()
        print("done", flush=True)
