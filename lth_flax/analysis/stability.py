"""Error barriers on the line between two networks: how stable training is to its noise.

Two copies of a network are trained on from one point with other orders of data and other
dropout. Where no barrier lies between them the point decides what is learned: training is
stable there, to its noise (Frankle et al., arXiv 1912.05671). A ticket is claimed to beat its
mask on fresh weights just there: so a line of tickets has that gap beside its barriers.
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lth_flax.analysis.words import percent
from lth_flax.errors import UserError
from lth_flax.files import write_text_atomic
from lth_flax.records import csv_text

MEASURES = ("train_loss", "test_error")


class Line(NamedTuple):
    """The networks from one copy of a seed (alpha 0) to the other (1), scored at equal steps.

    rewind_point: where the copies part, as it was asked for; rewind_step: in training steps.
    matched: whether the units of the second were permuted to fit those of the first.
    train_loss: mean over the training split without dropout, nats; test_error in percent.
    sparsity: of both networks, which share a mask.
    control_error: of that mask on fresh weights, in percent, the mean of two trainings.
    """

    learning_rate: float
    rewind_point: str
    rewind_step: int
    seed: int
    matched: bool
    train_loss: tuple[float, ...]
    test_error: tuple[float, ...]
    sparsity: float = 0.0
    control_error: float | None = None

    @property
    def gap(self) -> float:
        """Points of error that the control makes more than the ends of the line, on average."""
        assert self.control_error is not None
        return self.control_error - (self.test_error[0] + self.test_error[-1]) / 2


_NAMES = (*Line._fields[:5], "sparsity", "control_error")
"""What a line is known by, and what is one number of it."""
COLUMNS = (*_NAMES, "alpha", *MEASURES, *(f"{name}_barrier" for name in MEASURES))


def barrier(values: Sequence[float]) -> float:
    """The highest value on a line minus the mean of its ends.

    >>> barrier([1.0, 5.0, 2.0])
    3.5
    """
    return float(np.max(values) - (values[0] + values[-1]) / 2)


def sentences(lines: Iterable[Line], learning_rate: float, rewind_point: str) -> list[str]:
    """Mean barriers over seeds, for a terminal."""
    found = []
    here = [line for line in lines if line[:2] == (learning_rate, rewind_point)]
    for sparsity in dict.fromkeys(line.sparsity for line in here):
        copies = f"tickets of {percent(sparsity)}%" if sparsity else "copies"
        for matched, words in ((False, "as trained"), (True, "units matched")):
            some = [line for line in here if (line.sparsity, line.matched) == (sparsity, matched)]
            loss = np.mean([barrier(line.train_loss) for line in some])
            error = np.mean([barrier(line.test_error) for line in some])
            found.append(
                f"learning rate {learning_rate:g}, {copies} from {rewind_point}, {words}: barrier "
                f"of training loss {loss:.4f}, of test error {error:.2f} points"
            )
        if sparsity:
            gap = np.mean([line.gap for line in some])
            found[-1] += f"; ticket minus reinit {gap:+.2f} points of accuracy"
    return found


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """One row per network on a line, and its line's barriers, as CSV; written atomically."""
    rows: list[list[Any]] = []
    for line in lines:
        *known, matched = line[:5]
        known += [str(matched).lower(), line.sparsity, line.control_error]
        barriers = [barrier(line.train_loss), barrier(line.test_error)]
        last = len(line.train_loss) - 1
        for number, scores in enumerate(zip(line.train_loss, line.test_error, strict=True)):
            rows.append([*known, *map(float, (number / last, *scores, *barriers))])
    write_text_atomic(path, csv_text(COLUMNS, rows))


def read_lines(path: Path) -> list[Line]:
    """What `write_lines` wrote; nothing where there is no file.

    Raises:
      UserError: it is another file.
    """
    found: dict[tuple[str, ...], list[list[float]]] = {}
    try:
        if not path.exists():
            return []
        with open(path, encoding="utf-8", newline="") as stream:
            rows = csv.DictReader(stream, strict=True)
            if tuple(rows.fieldnames or ()) != COLUMNS:
                raise ValueError(f"expected the columns {','.join(COLUMNS)}")
            for row in rows:
                scores = found.setdefault(tuple(row[name] for name in _NAMES), [])
                scores.append([float(row[name]) for name in MEASURES])
        return [
            Line(float(rate), point, int(step), int(seed), matched == "true",
                 tuple(loss for loss, _ in scores), tuple(error for _, error in scores),
                 float(sparsity), float(control) if control else None)
            for (rate, point, step, seed, matched, sparsity, control), scores in found.items()
        ]  # fmt: skip
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(
            f"{path} is no table of connectivity ({error}): give another --work_dir"
        ) from None
