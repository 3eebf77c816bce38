"""Every split needs every class; where one is missing, why, and what to do about that."""

import math
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data.batches import SPLITS
from lth_flax.data.source import Source
from lth_flax.errors import UserError


def check_classes(
    source: Source,
    splits: Mapping[str, Int[np.ndarray, "members"]],
    shares: Mapping[str, float],
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
            texts = f"of class {source.class_names[missing[0]]}" if len(missing) > 1 else "of it"
            raise UserError(
                f"the {split} split of {source.name} would have no text of class {names}: "
                f"of {len(source.texts):,} texts in all, "
                + _reason(some, texts, split, source.official, shares)
            )


def _reason(
    some: Bool[np.ndarray, "texts"],
    of_it: str,
    split: str,
    own: Mapping[str, Bool[np.ndarray, "texts"]],
    shares: Mapping[str, float],
) -> str:
    """Cause and remedy; `some` are the texts of the class, which is called `of_it`."""
    drawn = [name for name in SPLITS if name not in own]
    count = int(some.sum())
    outside = count - sum(int((some & given).sum()) for given in own.values())
    texts = f"{count:,} are {of_it}" if count != 1 else f"1 is {of_it}"
    if count == 0:
        return f"none {of_it} is left; give --duplicates=keep, or other data"
    if split in own:
        return (
            f"{texts}, none in this split, which is the data's own; give another file or dataset "
            "for it, or leave it out and texts are drawn"
        )
    if outside == 0:
        held = " and ".join(name for name, given in own.items() if (some & given).any())
        return (
            f"{texts}, all in the data's own {held} split, so there is none to learn from; remove "
            "them, or give data that has the class in training"
        )
    if outside < len(drawn):
        return (
            f"{texts}, too few for {len(drawn)} splits ({', '.join(drawn)}); give more texts of "
            "the class, or remove it"
        )
    share = shares.get(split)
    if share is None:  # train: all the rest
        return (
            f"{texts}, and all are held out; give more, or smaller --validation_share and "
            "--test_share"
        )
    if share * outside < 1:
        return (
            f"{texts}, and {share:.1%} of {outside:,} is less than one; give at least "
            f"{math.ceil(1 / share):,}, or a larger --{split}_share"
        )
    return (
        f"{texts}, and they differ in length, or are copies of few (--duplicates=group); give "
        f"more, a larger --{split}_share, or fewer --max_shapes"
    )
