"""Settings that mean nothing where they were given: said in one line, never passed over."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from lth_flax.config import Config, Language, MaskSearch, Retraining, settings_of
from lth_flax.errors import UserError
from lth_flax.settings import own_name


def _names(group: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(group))


_TICKETS = ("arms", "reinit_draws", "dense_only", "rewind_epoch", "keep_mask")
_RETRAINING = _names(Retraining)
_ANSWERS = ("margin", "alpha", "report")
_METHODS = tuple(n for n in _names(MaskSearch) if n not in ("mask_from", "score_examples"))
_LANGUAGE = _names(Language)
_MASKS = (
    "levels", "rounds", "prune_rate", "schedule", "scope", "criterion", "structure", "unit_norm",
)  # fmt: skip


def _all_but(*names: str) -> tuple[str, ...]:
    return tuple(name for name in settings_of() if name not in names)


UNUSED: Mapping[str, tuple[str, ...]] = {
    "winning_ticket": (*_RETRAINING, "ticket"),
    "prune_after_training": (
        "schedule", "mask_from", *_METHODS, *_TICKETS, *_RETRAINING, *_LANGUAGE, "ticket",
    ),
    "post_prune_training": ("schedule", "mask_from", *_METHODS, *_TICKETS, *_LANGUAGE, "ticket"),
    # Networks are dense; barriers are numbers, and nothing is compared with a margin.
    "connectivity": (
        *_MASKS, "mask_from", "score_examples", *_METHODS, *_TICKETS, *_RETRAINING, *_ANSWERS,
        *_LANGUAGE, "ticket",
    ),
    # Each of its methods has its own.
    "compare_methods": (
        "schedule", "mask_from", "method", "criterion", "structure", "unit_norm", *_TICKETS,
        *_RETRAINING, *_LANGUAGE, "ticket",
    ),
    # A ticket has its mask, masks stay, and training starts at its beginning.
    "retrain_ticket": (
        *_MASKS, "mask_from", "score_examples", *_METHODS, "arms", "dense_only", "rewind_epoch",
        "keep_mask", *_RETRAINING, *_LANGUAGE,
    ),
    # As before, and a ticket has its seed.
    "transfer": (
        *_MASKS, "mask_from", "score_examples", *_METHODS, "dense_only", "rewind_epoch",
        "keep_mask", *_RETRAINING, *_LANGUAGE, "ticket", "seeds", "num_seeds",
    ),
    # A ticket says how its network is made and its texts are read.
    "export": _all_but("ticket", "platform"),
    "predict": _all_but("ticket", "platform", "data_file", "text_column", "separator", "encoding"),
}  # fmt: skip
"""Settings that mean nothing to a command. A flagfile may hold them at their defaults."""

DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    **{name: {"schedule": "oneshot"} for name in ("prune_after_training", "post_prune_training")},
    "transfer": {"arms": ("ticket", "reinit", "shuffled")},
}
"""Of a command, where they differ from those of `Config`."""


class Need(NamedTuple):
    """What a setting needs beside itself to mean something."""

    words: str
    holds: Callable[[Config], bool]


def _method(*names: str) -> Need:
    """One of these methods finds a mask."""

    def holds(config: Config) -> bool:
        return not {config.method, *getattr(config, "methods", ())}.isdisjoint(names)

    return Need(f"--method={' or '.join(names)}", holds)


def _task(name: str) -> Need:
    return Need(f"--task={name}", lambda config: config.task == name)


NEEDS: Mapping[str, Need] = {
    **dict.fromkeys((n for n in _LANGUAGE if n != "task"), _task("language_model")),
    **dict.fromkeys(
        ("duplicates", "max_length", "max_shapes", "embeddings_file", "freeze_embeddings",
         "readout", "dropout_between_layers", "unused_classes", "structure"),
        _task("text_classification"),
    ),
    "prune_rate": Need("--rounds", lambda config: config.rounds is not None),
    "unit_norm": Need("--structure", lambda config: bool(config.structure)),
    "reinit_draws": Need(
        "reinit among --arms", lambda config: "reinit" in map(own_name, config.arms)
    ),
    "keep": Need("--max_length: no text is cut", lambda config: config.max_length > 0),
    **dict.fromkeys(
        ("clip_norm", "momentum", "weight_decay"),
        Need("a named --optimizer: a function has its own",
             lambda config: isinstance(config.optimizer, str) and ":" not in config.optimizer),
    ),
    "scope": Need(
        "another --method: set and rigl share weights among tensors by --distribution, a "
        "supermask prunes each alike",
        lambda config: config.method not in ("set", "rigl", "supermask"),
    ),
    "share_layers": Need(
        "--method=supermask and --num_layers=3 or more: of two layers there is one above the first",
        lambda config: config.method == "supermask" and max(config.num_layers) > 2,
    ),
    **dict.fromkeys(("mask_every", "mask_end"), _method("gradual", "set", "rigl")),
    **dict.fromkeys(("mask_start", "initial_sparsity"), _method("gradual")),
    **dict.fromkeys(("drop", "distribution"), _method("set", "rigl")),
    **dict.fromkeys(
        ("early_bird_distance", "early_bird_draws", "early_bird_start"), _method("early_bird")
    ),
}  # fmt: skip


def refuse_ignored(config: Config) -> None:
    """Raises `UserError` for a setting, not at its default, that another one makes meaningless."""
    for name in config.changed(NEEDS):
        need = NEEDS[name]
        if not need.holds(config):
            raise UserError(
                f"--{name}={config.text(name)} means nothing without {need.words}; leave it out, "
                "or give that too"
            )


def refuse_unused(config: Config, command: str) -> None:
    """Raises `UserError` for a flag that was given and means nothing to the command."""
    for name in unused(config, command):
        if name in config.given:
            raise UserError(
                f"--{name} means nothing to this command: leave it out (--help lists its flags)"
            )


def unused(config: Config, command: str) -> list[str]:
    """Settings with another value than the command's default that mean nothing to it."""
    own = DEFAULTS.get(command, {})
    return [
        name
        for name in UNUSED.get(command, ())
        if getattr(config, name) != own.get(name, settings_of()[name].default)
    ]


def notes(config: Config) -> list[str]:
    """What is passed over, where that is no mistake: a flagfile may be used with another flag."""
    found = []
    names = config.changed([*_MASKS, *(name for name in _TICKETS if name != "dense_only")])
    if config.dense_only and names:
        found.append(f"note: --dense_only trains no tickets and passes over {_flags(names)}")
    names = config.changed(["synthetic_size"])
    if config.dataset != "synthetic" and names:
        found.append(f"note: --dataset={config.dataset} passes over {_flags(names)}")
    return found


def _flags(names: Sequence[str]) -> str:
    return ", ".join(f"--{name}" for name in names)
