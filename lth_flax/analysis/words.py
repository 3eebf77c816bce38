"""Names of arms, settings and data sets in words, for figures and the page."""

from collections.abc import Mapping
from typing import Any

ARMS = {
    "dense": "dense: nothing pruned",
    "ticket": "ticket: its own initial weights",
    "reinit": "reinit: same mask, new random weights",
    "shuffled": "shuffled: own weights, mask shuffled in each matrix",
    "random": "random: own weights, random mask",
    "pruned": "pruned, not trained after",
    "retrained": "pruned, then trained on",
    "dense_retrained": "dense, trained on just as long",
}
DATASETS = {"imdb_reviews": "IMDB reviews", "synthetic": "synthetic sentences"}
SCHEDULES = {"oneshot": "one-shot pruning", "iterative": "iterative pruning"}
CHECKPOINTS = {"last": "last epoch", "best": "epoch of best validation accuracy"}
FACTORS = {"num_layers": "layers", "learning_rate": "learning rate", "epochs": "epochs"}


def plain(name: str) -> str:
    """A name from data or flags, without underscores."""
    return name.replace("_", " ")


def arm_name(arm: str) -> str:
    """The arm with what it is: "reinit: same mask, new random weights"."""
    return ARMS.get(arm, plain(arm))


def dataset_name(name: str) -> str:
    return DATASETS.get(name, plain(name))


def count(number: int, noun: str) -> str:
    """ "1 seed", "8 seeds"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def factor_value(name: str, value: float) -> str:
    """A setting as people say it.

    >>> factor_value("num_layers", 4.0), factor_value("learning_rate", 0.003)
    ('4 layers', 'learning rate 0.003')
    """
    if name in ("num_layers", "epochs"):
        noun = FACTORS[name]
        return f"{value:g} {noun[:-1] if value == 1 else noun}"
    return f"{FACTORS.get(name, plain(name))} {value:g}"


def factor_values(values: Mapping[str, float], names: Any) -> str:
    """Those of `names` that are there: "2 layers, learning rate 0.001"."""
    return ", ".join(factor_value(name, values[name]) for name in names if name in values)


def percent(sparsity: float) -> str:
    """A level without its sign: "97.5"; as many digits as tell it from 100.

    >>> percent(0.9), percent(0.488), percent(0.9995)
    ('90', '48.8', '99.95')
    """
    return f"{round(100 * sparsity, 1 if sparsity < 0.99 else 3):g}"


def score_label(metric: Mapping[str, Any], split: str = "Test") -> str:
    """Of an axis: "Test accuracy (%)"."""
    return f"{split} {plain(metric['name'])}".replace("\n ", "\n") + " (%)" * (
        metric["unit"] == "points"
    )


MEANINGS = {
    "dense": "The network with nothing pruned.",
    "ticket": "The ticket is what remains after pruning, set back to its own initial values and "
    "trained again.",
    "reinit": "In reinit the same weights remain, but they start from new random values.",
    "shuffled": "In shuffled the initial values stay, but which weights are kept is shuffled "
    "within each weight matrix.",
    "random": "In random the initial values stay, but just as many weights are kept at random.",
    "pruned": "The trained network with weights removed, and no training after.",
    "retrained": "The pruned network, trained on.",
    "dense_retrained": "The network with nothing pruned, trained on for just as long.",
    "oneshot": "All weights are removed at once, after one training.",
    "seed": "One start of the random numbers: initial weights, order of the texts and, where there "
    "is no official test set, which texts are trained on. Networks of one seed are compared in "
    "pairs.",
    "draw": "One of several random versions of a control within a seed.",
    "gap": "The difference in accuracy, in percentage points, between two arms of one seed.",
    "iterative": "Weights are removed in rounds: train, remove some, set the rest back, and again.",
}


def meaning(name: str) -> str:
    """What an arm, a schedule or another term is; nothing for one that is not known here."""
    return MEANINGS.get(name, "")
