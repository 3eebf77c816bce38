"""Trains a saved ticket again, beside its dense network and reinitialized controls.

  python -m lth_flax.experiments.retrain_ticket --ticket=runs/quickstart/tickets/seed_0/level_0.9

On the data that it was found on, with the same training flags, the ticket's row
comes out equal to the bit. With `--dataset=...` it is trained on another set of
the same task: words match by spelling, and those that the ticket does not have
are its unknown word. Records are added to those of the work directory, so
tickets of several seeds, each with its own seed, become one paired analysis.
With `--num_seeds` one ticket meets several splits and data orders: that speaks
of this ticket, not of tickets.
"""

import dataclasses
import hashlib
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from lth_flax.data.dataset import Dataset
from lth_flax.data.sources import Source
from lth_flax.data.text import PADDING_WORD, UNKNOWN_ID, UNKNOWN_WORD, Vocabulary
from lth_flax.errors import UserError
from lth_flax.experiments import command
from lth_flax.experiments.choices import seed_block
from lth_flax.experiments.devices import configure_jax
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.grid import one_configuration
from lth_flax.experiments.results import Entry, Method
from lth_flax.experiments.run import Run
from lth_flax.experiments.setup import SETTING_FLAGS, SOURCE_FLAGS, build, load, prepare_data
from lth_flax.records import compact_json
from lth_flax.ticket_metadata import METADATA_FILE, read_metadata
from lth_flax.tickets import load_ticket
from lth_flax.training.loop import Replicate

_MODEL_FLAGS = ("embedding_size", "hidden_size", "num_layers")
_VOCABULARY_FLAGS = ("vocabulary_size", "min_count")
_OTHER_TICKET_FLAGS = ("prunable", "unused_classes")
_PRUNING_FLAGS = (
    "levels", "rounds", "prune_rate", "schedule", "scope", "criterion", "arms", "dense_only",
)  # fmt: skip
_TRAINING_FLAGS = ("rewind_epoch", "keep_mask")
_MOST = 2**31 - 2
"""Seeds and whole-number settings go up to here."""


def main() -> None:
    if not FLAGS.ticket:
        raise UserError("--ticket is missing: give the directory of a saved ticket")
    # First what the ticket says, then JAX as that wants it, then the arrays.
    found = read_metadata(Path(FLAGS.ticket).absolute() / METADATA_FILE)
    check_found(found)
    use_settings(found)
    seeds = seed_block()
    source = with_classes(load(), used_classes(found))
    rows = len(seeds) * (2 + FLAGS.reinit_draws)
    configure_jax(rows=rows)
    ticket = load_ticket(FLAGS.ticket)
    if ticket.rewind_params is not None:
        raise UserError(
            f"ticket {FLAGS.ticket} starts from weights in the middle of training: retrain_ticket "
            "starts at the beginning; give a ticket without rewinding"
        )
    shape, rate = one_configuration()
    setup = build(
        prepare_data(source, seeds, Vocabulary(tuple(found["vocabulary"]))),
        seeds,
        shape,
        rows=rows,
        vocabulary_size=found["model"]["vocabulary_size"],
    )
    origin = origin_of(found, setup.dataset)
    if list(seeds) != [found["seed"]]:  # else the seed of a row is that of its ticket
        origin += f", seed {found['seed']}"
    method = Method(
        "retrain_ticket",
        found["schedule"],
        found["scope"],
        found["criterion"],
        origin,
        # As rows of winning_ticket say it: here masks always stay, and training starts at 0.
        {"keep_mask": True, "rewind_epoch": "0"},
    )
    run = Run.open(setup, method, rows=rows, append=True, source=ticket.digest)
    for note in notes(found, source, setup.dataset):
        print(note)

    # Rows of other tickets, data and settings stand in the same file.
    settings = {**setup.settings, "learning_rate": rate}
    name = f"{setup.dataset.name}-{_digest([*method, setup.dataset.fingerprint, settings])}"
    level, sparsity, spent = found["level"], found["target_sparsity"], found["mask_steps"]
    dense = jax.tree_util.tree_map(np.ones_like, ticket.mask)
    theta_0 = ticket.initial_params
    entries = []
    for seed in seeds:
        entries.append(
            Entry("dense", seed, 0, 0, 0.0, 0, Replicate(theta_0, dense, seed, rate), name)
        )
        starts = [("ticket", 0, theta_0)]
        starts += [("reinit", d, setup.initialize(seed, d)) for d in range(FLAGS.reinit_draws)]
        for arm, draw, start in starts:
            row = Replicate(start, ticket.mask, seed, rate)
            entries.append(Entry(arm, seed, draw, level, sparsity, spent, row, name))
    run.train(entries)
    run.finish()


def check_found(found: Mapping[str, Any]) -> None:
    """Raises `UserError` unless the ticket says all that its records will say of it."""

    def is_text(value: Any) -> bool:
        return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200

    def is_count(value: Any) -> bool:
        return type(value) is int and 0 <= value <= _MOST

    def is_share(value: Any) -> bool:
        return type(value) in (int, float) and 0 <= value < 1

    needed: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("dataset", "data_fingerprint", "schedule", "scope", "criterion"), is_text),
        **dict.fromkeys(("seed", "level", "mask_steps"), is_count),
        "target_sparsity": is_share,
        "settings": lambda value: isinstance(value, dict),
    }
    for name, fits in needed.items():
        if not fits(found.get(name)):
            raise UserError(
                f"ticket {FLAGS.ticket} has {name} {reprlib.repr(found.get(name))}: "
                "expected a ticket that winning_ticket saved; give another"
            )
    if found["vocabulary"][:2] != [PADDING_WORD, UNKNOWN_WORD]:
        raise UserError(
            f"the vocabulary of ticket {FLAGS.ticket} does not begin with {PADDING_WORD} and "
            f"{UNKNOWN_WORD}: expected a ticket that winning_ticket saved; give another"
        )


def use_settings(found: Mapping[str, Any]) -> None:
    """Flags that were not given take the ticket's values; the model's must be the ticket's.

    Raises:
      UserError: a flag asks for another model, vocabulary or mask than the
        ticket's, or a value in the ticket is none for its flag.
    """
    settings = {**found["settings"], **{name: found["model"][name] for name in _MODEL_FLAGS}}
    for name in (*_MODEL_FLAGS, *_VOCABULARY_FLAGS, *_OTHER_TICKET_FLAGS):
        theirs = settings.get(name, FLAGS[name].default if name in _OTHER_TICKET_FLAGS else None)
        if FLAGS[name].present and getattr(FLAGS, name) != theirs:
            raise UserError(
                f"--{name}={getattr(FLAGS, name)} is not the ticket's {reprlib.repr(theirs)}: "
                "leave it out, a ticket fits its own model and vocabulary only"
            )
    for name in _PRUNING_FLAGS:
        if FLAGS[name].present and FLAGS[name].value != FLAGS[name].default:
            raise UserError(
                f"--{name} chooses masks, and a ticket has its own: leave it out, or run "
                "winning_ticket"
            )
    for name in _TRAINING_FLAGS:
        if FLAGS[name].present and FLAGS[name].value != FLAGS[name].default:
            raise UserError(
                f"--{name}: here masks stay, and training starts at its beginning; leave it out"
            )
    if bool(settings.get("embeddings")) != bool(FLAGS.embeddings_file):
        found_with = "with" if settings.get("embeddings") else "without"
        raise UserError(
            f"the ticket was found {found_with} word vectors from a file: expected its controls to "
            f"start {found_with} them; {'give' if found_with == 'with' else 'leave out'} "
            "--embeddings_file"
        )
    for name in SETTING_FLAGS:
        if name in settings:
            _default(name, settings[name])
    texts = found.get("source")
    _default("dataset", found["dataset"])
    if isinstance(texts, dict) and found["dataset"] == FLAGS.dataset:
        for name in SOURCE_FLAGS:
            if texts.get(name) is not None:
                _default(name, texts[name])
    if not (FLAGS["num_seeds"].present or FLAGS["seeds"].present):
        _default("seeds", f"{found['seed']}:{found['seed'] + 1}")


def _default(name: str, value: Any) -> None:
    """Sets a flag that was not given, and leaves one that was."""
    flag = FLAGS[name]
    if flag.present:
        return
    try:
        if isinstance(value, bool) != (flag.flag_type() == "bool"):
            raise ValueError
        if isinstance(value, int) and value > _MOST:
            raise ValueError
        flag.value = flag.parser.parse(value)
    except (ValueError, TypeError, OverflowError, flags.Error):
        raise UserError(
            f"ticket {FLAGS.ticket} has the setting {name} {reprlib.repr(value)}, which is none "
            f"for --{name}: give another ticket, or the flag"
        ) from None


def used_classes(found: Mapping[str, Any]) -> list[str]:
    """The classes that the ticket's data had: without those that no label uses."""
    names: list[str] = found["class_names"]
    return names[: max(0, len(names) - FLAGS.unused_classes)]


def with_classes(source: Source, names: list[str]) -> Source:
    """The source with the ticket's classes: same names, maybe shortened, or numbers in order.

    Raises:
      UserError: there are more or fewer, or they do not match.
    """
    theirs = list(source.class_names)
    order = _class_order(theirs, names)
    if order is None:
        raise UserError(
            f"{source.name} has the classes {', '.join(theirs)}, the ticket has "
            f"{', '.join(names)}: expected a data set of the same task"
        )
    labels = np.asarray(order, np.int32)[source.labels]
    return dataclasses.replace(source, labels=labels, class_names=tuple(names))


def _class_order(theirs: list[str], names: list[str]) -> list[int] | None:
    """For each class of the data, the ticket's; "neg" is "Negative". None where they differ."""
    if len(theirs) != len(names):
        return None
    matches = [[k for k, name in enumerate(names) if _same_class(own, name)] for own in theirs]
    if sorted(sum(matches, [])) == list(range(len(names))) and all(len(m) == 1 for m in matches):
        return [match[0] for match in matches]
    if all(map(_is_number, theirs)) or all(map(_is_number, names)):
        return list(range(len(names)))
    return None


def _same_class(one: str, other: str) -> bool:
    one, other = one.casefold(), other.casefold()
    short, long = sorted((one, other), key=len)
    return one == other or (len(short) >= 3 and short.isalpha() and long.startswith(short))


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def origin_of(found: Mapping[str, Any], dataset: Dataset) -> str:
    """Where masks come from and what they meet: rows that agree in it may be compared."""
    return (
        f"ticket of {found['dataset']} (data {found['data_fingerprint'][:12]}, settings "
        f"{_digest(found['settings'])}), on data {dataset.fingerprint[:12]}"
    )


def notes(found: Mapping[str, Any], source: Source, dataset: Dataset) -> list[str]:
    """What a reader of the result should know about the data."""
    seeds = list(dataset.members)
    if dataset.fingerprint == found["data_fingerprint"]:
        other = [s for s in seeds if dataset.split_fingerprint(s) != found.get("split_fingerprint")]
        if not other:
            return ["The data and its split are those that the ticket was found on"]
        if source.official_test is not None:
            return ["The data is the ticket's own, with another validation split"]
        return [
            f"The data is the ticket's own, split otherwise for {len(other)} of {len(seeds)} "
            "seeds: its mask was found with texts that are tested on here"
        ]
    tokens = sum(int(bucket["lengths"].sum()) for bucket in dataset.buckets)
    unknown = sum(int((bucket["tokens"] == UNKNOWN_ID).sum()) for bucket in dataset.buckets)
    return [
        f"Other data than the ticket's: {unknown / max(tokens, 1):.1%} of its words are "
        "unknown to the ticket"
    ]


def _digest(value: object) -> str:
    return hashlib.sha256(compact_json(value).encode()).hexdigest()[:10]


if __name__ == "__main__":
    command.run(main)
