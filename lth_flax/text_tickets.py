"""Tickets of text classification, trained again: what they say, held against flags and data."""

import dataclasses
import hashlib
import reprlib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from lth_flax.config import Config, names_of, settings_of
from lth_flax.data.dataset import Dataset
from lth_flax.data.sources import Source
from lth_flax.data.text import PADDING_WORD, UNKNOWN_ID, UNKNOWN_WORD
from lth_flax.errors import UserError
from lth_flax.identity import WORD_VECTORS, is_identity
from lth_flax.records import compact_json
from lth_flax.runs.results import Method
from lth_flax.runs.setup import Setup
from lth_flax.settings import LARGEST
from lth_flax.text_tasks import files_that_are_read, word_vectors
from lth_flax.tickets import Ticket

AnyConfig = TypeVar("AnyConfig", bound=Config)

_MODEL_FLAGS = ("embedding_size", "hidden_size", "num_layers")
_VOCABULARY_FLAGS = ("vocabulary_size", "min_count")
_OTHER_TICKET_FLAGS = ("prunable", "unused_classes", "tokenizer")


def check_metadata(config: Config, metadata: Mapping[str, Any]) -> None:
    """Raises `UserError` unless the ticket says all that its records will say of it."""

    task = metadata.get("task", "text_classification")
    if task != "text_classification":
        raise UserError(
            f"ticket {config.ticket} is of the task {reprlib.repr(task)}: expected one of text "
            "classification; give another"
        )

    def is_text(value: Any) -> bool:
        return isinstance(value, str) and value.isprintable() and 0 < len(value) <= 200

    def is_count(value: Any) -> bool:
        return type(value) is int and 0 <= value <= LARGEST

    def is_share(value: Any) -> bool:
        return type(value) in (int, float) and 0 <= value < 1

    needed: dict[str, Callable[[Any], bool]] = {
        **dict.fromkeys(("dataset", "data_fingerprint", "schedule", "scope", "criterion"), is_text),
        **dict.fromkeys(("seed", "level", "mask_steps"), is_count),
        "target_sparsity": is_share,
        "settings": lambda value: isinstance(value, dict),
        "identity": lambda value: value is None or is_identity(value),
    }
    for name, fits in needed.items():
        if not fits(metadata.get(name)):
            raise UserError(
                f"ticket {config.ticket} has {name} {reprlib.repr(metadata.get(name))}: "
                "expected a ticket that winning_ticket saved; give another"
            )
    if metadata["vocabulary"][:2] != [PADDING_WORD, UNKNOWN_WORD]:
        raise UserError(
            f"the vocabulary of ticket {config.ticket} does not begin with {PADDING_WORD} and "
            f"{UNKNOWN_WORD}: expected a ticket that winning_ticket saved; give another"
        )


def with_settings(config: AnyConfig, metadata: Mapping[str, Any]) -> AnyConfig:
    """What was not given takes the ticket's values; the model's must be the ticket's.

    Raises:
      UserError: a flag asks for another model, vocabulary or mask than the
        ticket's, or a value in the ticket is none for its setting.
    """
    settings = {**metadata["settings"], **{name: metadata["model"][name] for name in _MODEL_FLAGS}}
    known = settings_of(type(config))
    for name in (*_MODEL_FLAGS, *_VOCABULARY_FLAGS, *_OTHER_TICKET_FLAGS):
        default = known[name].default if name in _OTHER_TICKET_FLAGS else None
        theirs = settings.get(name, default)
        if name in config.given and getattr(config, name) not in (theirs, (theirs,)):
            raise UserError(
                f"--{name}={known[name].text(getattr(config, name))} is not the ticket's "
                f"{reprlib.repr(theirs)}: leave it out, a ticket fits its own model and "
                "vocabulary only"
            )
    if bool(settings.get("embeddings")) != bool(config.embeddings_file):
        found_with = "with" if settings.get("embeddings") else "without"
        raise UserError(
            f"the ticket was found {found_with} word vectors from a file: expected its controls to "
            f"start {found_with} them; {'give' if found_with == 'with' else 'leave out'} "
            "--embeddings_file"
        )
    theirs = {
        name: settings[name]
        for name in (*names_of("task"), *names_of("training"))
        if name in settings
    }
    theirs["dataset"] = metadata["dataset"]
    texts = metadata.get("source")
    ours = config.dataset if "dataset" in config.given else metadata["dataset"]
    if isinstance(texts, dict) and metadata["dataset"] == ours:
        theirs |= {name: texts[name] for name in names_of("source") if texts.get(name) is not None}
    if not config.given & set(names_of("seeds")):
        theirs["seeds"] = f"{metadata['seed']}:{metadata['seed'] + 1}"
    new = {name: value for name, value in theirs.items() if name not in config.given}
    for name, value in new.items():
        try:
            known[name].read(value)
        except ValueError:
            raise UserError(
                f"ticket {config.ticket} has the setting {name} {reprlib.repr(value)}, which is "
                f"none for --{name}: give another ticket, or the flag"
            ) from None
    return dataclasses.replace(config, **new)


def check_vectors(
    config: Config, metadata: Mapping[str, Any], dataset: Dataset, ticket: Ticket
) -> None:
    """Raises `UserError` unless controls start with the word vectors that the ticket had.

    A ticket of the first edition does not name its file, but has what came out of it.
    """
    now = files_that_are_read(config).get(WORD_VECTORS)
    if now is None:
        return
    theirs = ((metadata.get("identity") or {}).get("files") or {}).get(WORD_VECTORS)
    embedding = np.asarray(ticket.initial_params["embedding"]["embedding"])
    same = all(
        np.array_equal(embedding[: len(has)][has], vectors[has])
        for vectors, has in word_vectors(config, dataset, tuple(dataset.members)).values()
    )
    if not same or (theirs is not None and theirs != now):
        there = f"sha256 {theirs[:12]}" if theirs else "others"
        raise UserError(
            f"--embeddings_file={config.embeddings_file} holds other word vectors (sha256 "
            f"{now[:12]}) than ticket {config.ticket} was found with ({there}): its controls must "
            "start with the same; give that file"
        )


def used_classes(config: Config, metadata: Mapping[str, Any]) -> list[str]:
    """The classes that the ticket's data had: without those that no label uses."""
    names: list[str] = metadata["class_names"]
    return names[: max(0, len(names) - config.unused_classes)]


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


def notes(metadata: Mapping[str, Any], source: Source, dataset: Dataset) -> list[str]:
    """What a reader of the result should know about the data."""
    seeds = list(dataset.members)
    if dataset.fingerprint == metadata["data_fingerprint"]:
        other = [
            s for s in seeds if dataset.split_fingerprint(s) != metadata.get("split_fingerprint")
        ]
        if not other:
            return ["The data and its split are those that the ticket was found on"]
        if "test" in source.official:
            return ["The data is the ticket's own, with another validation split"]
        return [
            f"The data is the ticket's own, split otherwise for {len(other)} of {len(seeds)} "
            "seeds: its mask was found with texts that are tested on here"
        ]
    tokens = sum(int(np.asarray(bucket["lengths"]).sum()) for bucket in dataset.buckets)
    unknown = sum(
        int(np.sum(np.asarray(bucket["tokens"]) == UNKNOWN_ID)) for bucket in dataset.buckets
    )
    return [
        f"Other data than the ticket's: {unknown / max(tokens, 1):.1%} of its words are "
        "unknown to the ticket"
    ]


def digest(value: object) -> str:
    return hashlib.sha256(compact_json(value).encode()).hexdigest()[:10]


def method_of(experiment: str, metadata: Mapping[str, Any], mask_from: str) -> Method:
    """How the mask of a ticket was found, for records; `mask_from` also says what it meets."""
    # As rows of winning_ticket say it: here masks always stay, and training starts at 0.
    settings = {"keep_mask": True, "rewind_epoch": "0"}
    schedule, scope, criterion = (metadata[name] for name in ("schedule", "scope", "criterion"))
    return Method(experiment, schedule, scope, criterion, mask_from, settings)


def configuration_of(setup: Setup, method: Method, rate: float) -> str:
    """Part of the names of rows: those of other tickets, data and settings share their file."""
    settings = {**setup.settings, "learning_rate": rate}
    return f"{setup.examples.name}-{digest([*method, setup.examples.fingerprint, settings])}"
