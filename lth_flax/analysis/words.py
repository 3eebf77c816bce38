"""Names of arms, settings and data sets in words, for figures and the page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ARMS = {
    "dense": "dense: nothing pruned",
    "ticket": "ticket: its own initial weights",
    "rewound ticket": "ticket: its own weights, rewound",
    "reinit": "reinit: same mask, new random weights",
    "shuffled": "shuffled: own weights, mask shuffled in each matrix",
    "random": "random: own weights, random mask",
    "frozen": "frozen: pruned weights stay as they began",
    "signs": "signs: new magnitudes, own signs",
    "constant": "constant: own signs, one magnitude",
    "reshuffled": "reshuffled: own weights, shuffled under the mask",
    "trained_signs": "trained signs: new magnitudes, signs once trained",
    "permuted_mask": "permuted mask: new weights, mask moved to fit them",
    "pruned": "pruned, not trained after",
    "retrained": "pruned, then trained on",
    "dense_retrained": "dense, trained on just as long",
}
DATASETS = {"imdb_reviews": "IMDB reviews", "synthetic": "synthetic sentences"}
SCHEDULES = {"oneshot": "one-shot pruning", "iterative": "iterative pruning"}
CHECKPOINTS = {"last": "last epoch", "best": "epoch with the best validation score"}
FACTORS = {"num_layers": "layers", "learning_rate": "learning rate", "epochs": "epochs"}


def plain(name: str) -> str:
    """A name from data or flags, without underscores."""
    return name.replace("_", " ")


def factor_name(name: str) -> str:
    """A factor, or another setting, in words."""
    return FACTORS.get(name, plain(name))


def arm_name(arm: str, settings: Mapping[str, Any] | None = None) -> str:
    """The arm with what it is: "reinit: same mask, new random weights".

    >>> arm_name("ticket", {"rewind_epoch": "5%"})
    'ticket: its own weights, rewound'
    """
    key = f"rewound {arm}" if rewound_to(settings or {}) else arm
    return ARMS.get(key, ARMS.get(arm, plain(arm)))


def rewound_to(settings: Mapping[str, Any]) -> str:
    """The point of training at which tickets begin; nothing where it is the initialization.

    >>> rewound_to({"rewind_epoch": "5%"}), rewound_to({"rewind_epoch": "0.0"}), rewound_to({})
    ('5% of training', '', '')
    """
    text = str(settings.get("rewind_epoch") or "0").strip()
    number = float(text.removesuffix("%"))
    if not number:
        return ""
    return f"{number:g}% of training" if text.endswith("%") else f"{number:g} epochs"


def of_run(meanings: Mapping[str, str], ones: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Explanations of what is compared, for tickets of another origin than the usual one."""
    found = {name: text if name == "seed" else begun(text, ones) for name, text in meanings.items()}
    if all(one["settings"].get("method") for one in ones):
        found["ticket"] = found["method ticket"]
    return found


def begun(text: str, ones: Iterable[Mapping[str, Any]]) -> str:
    """A text that speaks of initial values or weights, for configurations that may be rewound."""
    points = {rewound_to(one["settings"]) for one in ones}
    if points == {""}:
        return text
    at = f" after {points.pop()}" if len(points) == 1 else " to which they are set back"
    return text.replace("initial values", f"values{at}").replace("initial weights", f"weights{at}")


def dataset_name(name: str) -> str:
    return DATASETS.get(name, plain(name))


def count(number: int, noun: str) -> str:
    """ "1 seed", "8 seeds"."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def in_points(number: float) -> str:
    """ "1 point", "0.5 points"."""
    return f"{number:g} point{'s' * (number != 1)}"


def factor_value(name: str, value: float) -> str:
    """A setting as people say it.

    >>> factor_value("num_layers", 4.0), factor_value("learning_rate", 0.003)
    ('4 layers', 'learning rate 0.003')
    """
    if name in ("num_layers", "epochs"):
        noun = FACTORS[name]
        return f"{value:g} {noun[:-1] if value == 1 else noun}"
    return f"{factor_name(name)} {value:g}"


def factor_values(values: Mapping[str, float], names: Any) -> str:
    """Those of `names` that are there: "2 layers, learning rate 0.001"."""
    return ", ".join(factor_value(name, values[name]) for name in names if name in values)


def configuration_name(summary: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """A configuration in words, nothing where there is one only."""
    return factor_values(one["factors"], summary["factors"]) or one["name"]


def percent(sparsity: float) -> str:
    """A level without its sign: "97.5"; as many digits as tell it from 100.

    >>> percent(0.9), percent(0.488), percent(0.9995)
    ('90', '48.8', '99.95')
    """
    return f"{round(100 * sparsity, 1 if sparsity < 0.99 else 3):g}"


def score_label(metric: Mapping[str, Any], split: str = "Test") -> str:
    """Of an axis: "Test accuracy (%)"."""
    return f"{split} {plain(metric['name'])}" + " (%)" * (metric["unit"] == "points")


def level_name(sparsity: float) -> str:
    """A level as people say it: "48.8%"."""
    return f"{percent(sparsity)}%"
