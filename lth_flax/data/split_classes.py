"""Every split needs every class; where one is missing, why, and what to do about that."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data.batches import SPLITS
from lth_flax.data.source import Source
from lth_flax.errors import UserError


def check_classes(
    source: Source, splits: Mapping[str, Int[np.ndarray, "members"]], shares: Mapping[str, float]
) -> None:
    """Raises `UserError` where a split has no text of some class.

    Args:
      splits: of any seed; which classes they have does not depend on it.
      shares: of all texts that are drawn, in each drawn split.
    """
    for split in SPLITS:
        present = np.unique(source.labels[splits[split]])
        missing = [k for k in range(len(source.class_names)) if k not in present]
        if missing:
            names = ", ".join(source.class_names[k] for k in missing)
            # What remedies the first mostly remedies the others.
            some = source.labels == missing[0]
            of_it = f"of class {source.class_names[missing[0]]}" if len(missing) > 1 else "of it"
            why = f"none {of_it} is left; give --duplicates=keep, or other data"
            if count := int(some.sum()):
                texts = f"{count:,} {'is' if count == 1 else 'are'} {of_it}"
                why = f"{texts}, {_reason(some, split, source.official, shares)}"
            raise UserError(
                f"the {split} split of {source.name} would have no text of class {names}: "
                f"of {len(source.texts):,} texts in all, {why}"
            )


def _reason(
    some: Bool[np.ndarray, "texts"],
    split: str,
    own: Mapping[str, Bool[np.ndarray, "texts"]],
    shares: Mapping[str, float],
) -> str:
    """Cause and remedy; `some` are the texts of the class, at least one."""
    drawn = [name for name in SPLITS if name not in own]
    held = {name: int((some & given).sum()) for name, given in own.items()}
    outside = int(some.sum()) - sum(held.values())
    if split in own:
        return (
            "none in this split, which is the data's own; give another file or dataset for it, or "
            "leave it out and texts are drawn"
        )
    if outside == 0:
        return (
            f"all in the data's own {' and '.join(name for name in held if held[name])} split, so "
            "there is none to learn from; remove them, or give data that has the class in training"
        )
    if outside < len(drawn):
        return (
            f"too few for {len(drawn)} splits ({', '.join(drawn)}); give more texts of the class, "
            "or remove it"
        )
    share = shares.get(split)
    if share is None:  # train: all the rest
        return "and all are held out; give more, or smaller --validation_share and --test_share"
    if share * outside < 1:
        return (
            f"and {share:.1%} of {outside:,} is less than one; give at least "
            f"{math.ceil(1 / share):,}, or a larger --{split}_share"
        )
    return (
        "and they differ in length, or are copies of few (--duplicates=group); give more, a larger "
        f"--{split}_share, or fewer --max_shapes"
    )
