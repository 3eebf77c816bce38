"""From a trained row to its records: the metrics, and what the mask looks like."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np
from jaxtyping import Int

from lth_flax.parts import Rows
from lth_flax.predictions import labels_name
from lth_flax.pruning.masks import (
    density,
    path_names,
    prunable_by_default,
    sparsity,
    total_sparsity,
)
from lth_flax.records import CHECKPOINTS, CurvePoint, Record
from lth_flax.runs.setup import Setup
from lth_flax.training.table import Curve, Outcome, Replicate
from lth_flax.types import Mask, Params

SCORED_SPLITS = ("validation", "test")


class Entry(NamedTuple):
    """A row of a table and its name: which arm of which seed at which level.

    configuration: what tells it from rows of other configurations, or nothing.
    learning_rate: of its configuration, where the replicate has another.
    method: what found its mask, where it is not the criterion.
    train_steps: of its own training.
    mask_dense_steps: `mask_steps`, each as the share of weights in use; None: all were.
    in_use: the mean share of weights in use during its own training, where its mask changed.
    search: what the method says of how it found the mask.
    """

    arm: str
    replicate: Replicate
    configuration: str = ""
    draw: int = 0
    level: int = 0
    target_sparsity: float = 0.0
    mask_steps: int = 0
    learning_rate: float | None = None
    method: str | None = None
    train_steps: int = 0
    mask_dense_steps: float | None = None
    in_use: float | None = None
    search: Mapping[str, Any] = {}

    @property
    def seed(self) -> int:
        return self.replicate.seed

    @property
    def row_id(self) -> str:
        """A name that is unique in a work directory."""
        suffix = f"/{self.configuration}" if self.configuration else ""
        if self.arm == "dense":
            return f"dense/seed={self.seed}{suffix}"
        level = f"level={self.target_sparsity:g}"
        return f"{self.arm}/{level}/seed={self.seed}/draw={self.draw}{suffix}"


class Method(NamedTuple):
    """How masks were found, and settings of this experiment alone: the same for all rows."""

    experiment: str
    schedule: str
    scope: str
    criterion: str
    mask_from: str = "end of training"
    settings: Mapping[str, Any] = {}


def are_classes(values: np.ndarray | None) -> TypeGuard[np.ndarray]:
    """Whether they are one class for each example, counted from 0."""
    if values is None or values.ndim != 1 or values.dtype.kind not in "iub":
        return False
    return not len(values) or int(values.min()) >= 0


def class_columns(
    outputs: Mapping[str, np.ndarray],
    labels: Int[np.ndarray, " examples"] | None,
    classes: int | None,
) -> dict[str, Any]:
    """What only classifiers have: shares of the predicted classes, and of the most frequent one."""
    if not are_classes(labels):
        return {"predicted_shares": (), "majority_accuracy": None}
    counts = np.zeros(0, int)
    if are_classes(outputs.get("predicted")):
        counts = np.bincount(outputs["predicted"], minlength=classes or int(labels.max()) + 1)
    return {
        "predicted_shares": tuple(float(n) / len(labels) for n in counts),
        "majority_accuracy": int(np.unique(labels, return_counts=True)[1].max()) / len(labels),
    }


def rows_of(
    setup: Setup, method: Method, entries: Sequence[Entry], outcomes: Sequence[Outcome]
) -> Rows:
    """All that is kept of trained rows but tickets."""
    pairs = list(zip(entries, outcomes, strict=True))
    return Rows(
        [record for pair in pairs for record in records_of(setup, method, *pair)],
        [point for pair in pairs for point in curves_of(setup, pair[0], pair[1].curves)],
        {name: array for pair in pairs for name, array in predictions_of(setup, *pair).items()},
    )


def records_of(setup: Setup, method: Method, entry: Entry, outcome: Outcome) -> list[Record]:
    """One record per checkpoint ("last", "best") and split (validation, test) that was scored."""
    rate = {"learning_rate": entry.learning_rate or entry.replicate.learning_rate}
    task, examples = setup.task, setup.examples
    model = task.model
    connected = model.is_connected if model else None
    diagnose = model.diagnostics if model else None
    common: Mapping[str, Any] = {
        **method._asdict(),
        "row_id": entry.row_id,
        "dataset": examples.name,
        "data_fingerprint": examples.fingerprint,
        "settings": {**setup.settings, **method.settings, **rate},
        "arm": entry.arm,
        "seed": entry.seed,
        "draw": entry.draw,
        "level": entry.level,
        "target_sparsity": entry.target_sparsity,
        "best_epoch": outcome.best_epoch,
        "mask_steps": entry.mask_steps,
        "diverged_epoch": outcome.diverged_epoch,
        "train_examples": sum(map(len, examples.draw(entry.seed)["train"])),
        "test_drawn": examples.test_drawn,
        "method": "dense" if entry.arm == "dense" else entry.method or method.criterion,
        "train_steps": entry.train_steps,
        "dense_steps": _dense_steps(entry, outcome),
    }
    end = outcome.curves[-1].epoch if outcome.curves else setup.trainer.workload.epochs
    epochs = {"last": end, "best": outcome.best_epoch}
    records = []
    for checkpoint in CHECKPOINTS:
        mask = outcome.mask_of(checkpoint)
        of_mask: Mapping[str, Any] = {
            "achieved_sparsity": sparsity(mask),
            "achieved_sparsity_all": total_sparsity(outcome.params, mask),
            "connected": connected is None or connected(outcome.params, mask),
        }
        for split in SCORED_SPLITS:
            output = outcome.outputs.get((checkpoint, split))
            if output is None:
                continue
            of_split = examples.of(entry.seed, split)
            found = task.measure(output, of_split)
            once = (checkpoint, split) == ("last", "test")
            records.append(
                Record(
                    **common,
                    **of_mask,
                    checkpoint=checkpoint,
                    epoch=epochs[checkpoint],
                    split=split,
                    # The same mask four times would be most of the file: it stands once.
                    density=density(mask, model.gates if model else None) if once else {},
                    search=entry.search if once else {},
                    diagnostics=diagnose(outcome.params, mask) if once and diagnose else {},
                    examples=len(next(iter(output.values()))),
                    accuracy=found.get("accuracy"),
                    balanced_accuracy=found.get("balanced_accuracy"),
                    loss=found.get("loss", float("nan")),
                    metrics=found,
                    primary=task.primary,
                    higher_is_better=task.higher_is_better,
                    **class_columns(
                        output, of_split.get("labels"), model.num_classes if model else None
                    ),
                )
            )
    return records


def _dense_steps(entry: Entry, outcome: Outcome) -> float:
    """Steps of training in all, each as the share of the weights of kernels that were in use."""
    spent = entry.mask_steps if entry.mask_dense_steps is None else entry.mask_dense_steps
    own = entry.in_use
    if own is None:
        own = weights_in_use(outcome.params, outcome.mask)
    return spent + own * entry.train_steps


def weights_in_use(params: Params, mask: Mask) -> float:
    """The share of weights of kernels that a mask keeps: what is not prunable is all in use.

    A product with a kernel costs as many operations as it has weights, and hardly anything else
    costs any.
    """
    kept = total = 0
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree_util.tree_leaves(mask), strict=True
    )
    for (path, leaf), of_leaf in pairs:
        if np.ndim(of_leaf) or prunable_by_default(path_names(path), leaf):
            total += leaf.size
            kept += int(np.count_nonzero(np.broadcast_to(of_leaf, leaf.shape)))
    return kept / total


def curves_of(setup: Setup, entry: Entry, curves: Sequence[Curve]) -> list[CurvePoint]:
    """One point per epoch."""
    of_accuracy = setup.task.primary == "accuracy"
    return [
        CurvePoint(
            row_id=entry.row_id,
            arm=entry.arm,
            seed=entry.seed,
            draw=entry.draw,
            target_sparsity=entry.target_sparsity,
            epoch=curve.epoch,
            train_loss=_finite(curve.train_loss),
            validation_loss=_finite(curve.validation_loss),
            validation_accuracy=curve.validation_score if of_accuracy else None,
            validation_score=_finite(curve.validation_score),
        )
        for curve in curves
    ]


def predictions_of(setup: Setup, entry: Entry, outcome: Outcome) -> dict[str, np.ndarray]:
    """Predicted classes of the test split by checkpoint, and its labels; of classifiers alone."""
    model, found = setup.task.model, {}
    last = model.num_classes - 1 if model and model.num_classes else 2**31 - 1
    smallest = np.min_scalar_type(last)
    for (checkpoint, split), output in outcome.outputs.items():
        if split == "test" and are_classes(output.get("predicted")):
            found[f"{entry.row_id}/{checkpoint}"] = output["predicted"].astype(smallest)
            labels = setup.examples.of(entry.seed, split).get("labels")
            if are_classes(labels):
                name = labels_name(setup.examples.name, entry.seed)
                found[name] = labels.astype(smallest)
    return found


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
