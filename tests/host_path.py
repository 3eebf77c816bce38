"""Masks by the plain functions, one network at a time: what the engine has to agree with."""

import jax
import numpy as np

from lth_flax.config import settings_of
from lth_flax.pruning.select import prune
from lth_flax.pruning.units import on_units, unit_scores, units_of
from lth_flax.randomness import key


def next_mask(scores, mask, level, *, scope="global", schedule="iterative"):
    """The mask of a level, from the scores of the network that wore `mask`."""
    if schedule == "iterative" and level.fraction is not None:
        return prune(scores, mask, fraction=level.fraction, scope=scope)
    return prune(scores, mask, sparsity=level.target_sparsity, scope=scope)


def pruned(config, family, trained, mask, level):
    """Scores trained weights, or whole units, and prunes to the level."""
    groups = family.groups
    per_unit = bool(groups) and config.criterion == "random"
    scores = settings_of()["criterion"].function(config.criterion)(
        units_of(mask, groups) if per_unit else trained,
        initial_params=family.initial_params,
        key=key(family.seed, "random scores"),  # one draw for all levels: they nest
    )
    if groups and not per_unit:
        scores = unit_scores(scores, groups, norm=config.unit_norm)

    def to_level(mask):
        return next_mask(scores, mask, level, scope=config.scope, schedule=config.schedule)

    found = on_units(mask, groups, to_level)
    return jax.tree.map(np.asarray, found)
