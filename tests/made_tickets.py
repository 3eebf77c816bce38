"""Tickets of networks that were never trained, as if they had been: quick to make."""

import jax
import numpy as np

from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.models.units import units
from lth_flax.pruning.masks import apply_mask, full_mask
from lth_flax.pruning.units import expanded
from lth_flax.tickets import Ticket

WORDS = ("<pad>", "<unk>", "good", "bad", "film", "not", "a", ",")
CLASSES = ("negative", "positive", "mixed")


def parameters(model, seed):
    """Random weights and biases, strong enough that answers differ."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 1), int), np.ones(1, int))[
        "params"
    ]
    return jax.tree_util.tree_map(
        lambda leaf: rng.normal(size=leaf.shape, scale=0.7).astype(np.float32), shapes
    )


def make_ticket(
    layers=2,
    hidden=3,
    readout="final",
    seed=0,
    *,
    structured=False,
    dead="",
    words=WORDS,
    **metadata,
):
    """A ticket whose mask prunes a third of the weights, or of the units; `dead` names a group."""
    model = BiLSTMClassifier(len(words), 4, hidden, layers, len(CLASSES), readout=readout)
    initial, trained = parameters(model, seed), parameters(model, seed + 1)
    rng = np.random.default_rng(seed)
    groups = units(initial)
    kept = {
        g.name: (np.arange(g.size) % 3 != 0 if structured else np.ones(g.size, bool))
        & (not dead or not g.name.startswith(dead))
        for g in groups
    }
    mask = jax.tree_util.tree_map(np.array, expanded(kept, groups, full_mask(initial)))
    if not structured:
        mask = jax.tree_util.tree_map(
            lambda m: m & (rng.random(m.shape) < 0.67) if m.ndim else m, mask
        )
    return Ticket(
        initial,
        mask,
        jax.tree_util.tree_map(np.asarray, apply_mask(trained, mask)),
        {
            "task": "text_classification",
            "dataset": "csv",
            "model": model.settings,
            "vocabulary": list(words),
            "class_names": list(CLASSES),
            "settings": {"tokenizer": "words", "max_length": 0, "keep": "end"},
            "padded_length": 6,
            "seed": 3,
            "level": 1,
            "target_sparsity": 0.33,
            **metadata,
        },
    )
