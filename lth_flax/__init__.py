"""Lottery tickets in neural networks: find them, test them, keep them.

    import lth_flax as lth

    task = lth.Task(init, loss, evaluate)                 # pure functions over any pytree
    examples = lth.Examples.split({"x": x, "labels": y})  # or from_arrays(train, validation, test)
    result = lth.find_tickets(task, examples, seeds=8, levels=[0.5, 0.8, 0.9],
                              training=lth.Training(epochs=5, batch_size=64))
    print(result.verdict)

The commands of `lth_flax.experiments` are users of the same functions: `python -m
lth_flax.experiments.winning_ticket --help`. Names are loaded when they are first asked for, so
that a command can choose JAX's devices before JAX starts.
"""

import importlib
import os
import sys
from typing import Any

__version__ = "2.0.0"

# LAPACK draws the orthogonal initialization, and with several threads its bits depend on how many
# there are. Read when SciPy is imported: not in a process that has it already.
if "numpy" not in sys.modules:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_PUBLIC = {
    "Task": "tasks",
    "Examples": "tasks",
    "Training": "tasks",
    "find_tickets": "search",
    "Result": "result",
    "Source": "data.source",
    "text_classification": "text_tasks",
    "language_model": "language_tasks",
}
__all__ = [
    "Examples", "Result", "Source", "Task", "Training", "find_tickets", "language_model",
    "text_classification",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lth_flax' has no attribute {name!r}")
    return getattr(importlib.import_module(f"lth_flax.{_PUBLIC[name]}"), name)
