"""What goes into a table of replicates, and what comes out.

A replicate is not made before its slice is trained, and what it became is read again,
from the disk where slices are kept there, by whoever needs it: a table of any length
needs the memory of a few slices.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from lth_flax.training.checkpoints import flatten, unflatten
from lth_flax.types import Mask, Params

Arrays = Mapping[str, np.ndarray]

SCORED = tuple((c, s) for c in ("last", "best") for s in ("validation", "test"))
"""(checkpoint, split) of everything that is scored."""


class Start(NamedTuple):
    """Where a replicate starts; trees of host arrays, which may be shared.

    opt_state: where the optimizer goes on from, as `Outcome.kept` has it; None: a fresh one.
    carry: then, what the network remembers (`steps.State`); (): nothing yet.
    own: what `steps.Recipe.wrap` needs to know of this row.
    frozen: whether pruned weights stay at the values here, in place of zero.
    """

    params: Params
    mask: Mask
    opt_state: Any = None
    own: Any = ()
    frozen: bool = False
    carry: Any = ()


@dataclass(frozen=True)
class Replicate:
    """One training run, a row of a table. `start` is called when its slice is trained."""

    start: Callable[[], Start]
    seed: int
    learning_rate: float


class Span(NamedTuple):
    """The part of a training run that a table does; steps and epochs count from the run's start.

    start: steps that lie behind. The learning rate, the order of the data and
      dropout go on from there.
    epochs: the last epoch; 0: the workload's.
    keep: after which step the state is kept in the outcome, if any.
    """

    start: int = 0
    epochs: int = 0
    keep: int | None = None


class Kept(NamedTuple):
    """Where a replicate was in the middle of training (host arrays)."""

    params: Params
    opt_state: Any
    carry: Any = ()


class Curve(NamedTuple):
    """One epoch of one replicate. The loss of training is that under dropout.

    The validation score is the task's primary metric; a loss that the task does not tell is NaN.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True)
class Outcome:
    """What a replicate became.

    params: at the end of training (host arrays), pruned weights zero or frozen.
    mask: that of the end of training; of a recipe that does not keep masks, that of the start.
    best_epoch: of the best validation score, the earliest of equals, from 1.
    outputs: (checkpoint, split) -> per-example arrays of `predict_fn`, in the
      order of the split's members; checkpoint is "last" or "best".
    diverged_epoch: the first epoch whose training loss was not finite, or None.
    kept: the state after the step that `Span.keep` names.
    best_mask: that of the best epoch, where masks change.
    """

    params: Params
    mask: Mask
    best_epoch: int
    curves: tuple[Curve, ...]
    outputs: Mapping[tuple[str, str], Mapping[str, np.ndarray]]
    diverged_epoch: int | None
    kept: Kept | None = None
    best_mask: Mask = None

    def mask_of(self, checkpoint: str) -> Mask:
        """Of "last" or "best"."""
        return self.mask if checkpoint == "last" or self.best_mask is None else self.best_mask


class Shapes(NamedTuple):
    """Of the trees of any row of a table, as `jax.eval_shape` has them; kept: see `Span.keep`."""

    params: Params
    mask: Mask
    kept: Kept | None


@dataclass(frozen=True)
class Finished:
    """A slice of a table that was trained.

    load: its arrays (`finished_arrays`), each time they are needed.
    rows: how many there are, without those that only fill up the slice.
    first_epoch: the first that the table trained.
    """

    load: Callable[[], Arrays]
    rows: int
    shapes: Shapes
    first_epoch: int

    def outcomes(self) -> list[Outcome]:
        """What its replicates became."""
        return [self.outcome(row) for row in range(self.rows)]

    def outcome(self, row: int) -> Outcome:
        """What one of them became."""
        mine = {name: array[row] for name, array in self.load().items()}
        outputs: dict[tuple[str, str], dict[str, np.ndarray]] = {name: {} for name in SCORED}
        for name, array in mine.items():
            if name.startswith("output|"):
                _, checkpoint, split, field = name.split("|")
                outputs[checkpoint, split][field] = array
        curves = tuple(
            Curve(epoch, *(float(value) for value in values))
            for epoch, values in enumerate(mine["history"], start=1)
            if epoch >= self.first_epoch
        )
        masks = {
            name: _unpacked(unflatten(mine, name, self.shapes.mask), self.shapes.mask)
            for name in ("mask", "best_mask")
            if any(array.startswith(f"{name}_") for array in mine)
        }
        return Outcome(
            params=unflatten(mine, "params", self.shapes.params),
            **masks,
            best_epoch=int(mine["best_epoch"]),
            curves=curves,
            outputs=outputs,
            diverged_epoch=next((c.epoch for c in curves if not np.isfinite(c.train_loss)), None),
            kept=unflatten(mine, "kept", self.shapes.kept),
        )


def finished_arrays(
    params: Params,
    mask: Mask,
    kept: Kept | tuple[()],
    best_epoch: np.ndarray,
    history: np.ndarray,
    outputs: Mapping[tuple[str, str], Arrays],
    best_mask: Mask = None,
) -> dict[str, np.ndarray]:
    """What is kept of a slice, by name; the leading axis of all is the rows.

    Args:
      kept: at the step to keep; () without.
      history: [epochs, rows, 3], the columns of `Curve`; NaN in epochs that lie behind.
      best_mask: of the best epoch, where masks change.
    """
    return {
        **flatten(params, "params"),
        **flatten(jax.tree_util.tree_map(_packed, mask), "mask"),
        **flatten(jax.tree_util.tree_map(_packed, best_mask), "best_mask"),
        **flatten(kept, "kept"),
        "best_epoch": best_epoch,
        "history": np.swapaxes(history, 0, 1),
        **{
            f"output|{checkpoint}|{split}|{name}": array
            for (checkpoint, split), of_split in outputs.items()
            for name, array in of_split.items()
        },
    }


def _packed(leaf: Any) -> np.ndarray:
    """Masks of rows, [rows, ...], as bits: [rows, bytes]."""
    return np.packbits(np.reshape(leaf, (len(leaf), -1)), axis=1)


def _unpacked(bits: Any, like: Mask) -> Mask:
    def leaf(packed: np.ndarray, like: Any) -> np.ndarray:
        size = int(np.prod(like.shape))
        return np.unpackbits(packed, count=size).astype(bool).reshape(like.shape)

    return jax.tree_util.tree_map(leaf, bits, like)
