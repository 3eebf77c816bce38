"""A process that does PyTorch training steps when told to: one per core, or one with all cores.

Started by `train_step`. Reads the number of steps from standard input, line by
line, and answers with one line when they are done.
"""

import sys

import torch

from lth_flax.benchmarks.shapes import (
    CLASSES,
    DROPOUT,
    LEARNING_RATE,
    SHAPES,
    SPARSITY,
    WORDS,
)
from lth_flax.benchmarks.torch_model import Classifier, Masked


def main() -> None:
    shape, threads = SHAPES[sys.argv[1]], int(sys.argv[2])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = Classifier(WORDS, shape.features, shape.hidden, shape.layers, CLASSES, DROPOUT)
    masked = Masked(model.train(), LEARNING_RATE)
    masked.prune(SPARSITY)
    tokens = torch.randint(WORDS, (shape.length, shape.batch))
    labels = torch.randint(CLASSES, (shape.batch,))
    for line in sys.stdin:
        for _ in range(int(line)):
            masked.step(tokens, labels)
        print("done", flush=True)


if __name__ == "__main__":
    main()
