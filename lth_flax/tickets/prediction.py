"""What a ticket says of new texts, read as the texts that it was trained on."""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from lth_flax.data.cleaning import CLEANERS, cleaning_of
from lth_flax.data.text import PADDING_WORD, UNKNOWN_ID, UNKNOWN_WORD, Vocabulary, encode, intern
from lth_flax.data.tokenizer import TOKENIZERS
from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.types import Params

MOST_ROWS = 64
SHORTEST = 8
_UNLIMITED = 2**31 - 1


class Prediction(NamedTuple):
    """The answer to one text.

    probabilities: class name -> its probability, in the order of the classes; they sum to 1.
    words: how many were read, after a text that is too long was cut.
    unknown: those of them that the ticket has no vector of its own for, in the order of the text.
    """

    label: str
    probabilities: dict[str, float]
    words: int
    unknown: tuple[str, ...]


class Reading(NamedTuple):
    """How a ticket's training read its texts.

    cleaning: one of `cleaning.CLEANERS`.
    longest: tokens of a text, of which the end or the start is kept.
    padded: whether all texts were padded to `longest` tokens, for the answer depends on it.
    """

    cleaning: str
    tokenizer: str
    vocabulary: Vocabulary
    longest: int
    keep: str
    padded: bool


def predict(
    model: BiLSTMClassifier, params: Params, metadata: Mapping[str, Any], texts: Sequence[str]
) -> list[Prediction]:
    """One prediction for each text.

    Texts go through the cleaning, the tokenizer, the vocabulary and the length that `metadata`,
    that of a ticket, names. A text without a word is answered by the bias of the head.

    Raises:
      UserError: there is no text, or what was given are no texts; or the ticket does not say how
        its texts were read.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError("texts must be a list of texts, such as ['a good film', 'a bad one']")
    if not len(texts):
        raise UserError("there is no text: give at least one")
    reading = reading_of(metadata)
    tokenized = intern(list(map(CLEANERS[reading.cleaning], texts)), reading.tokenizer)
    spelling = Vocabulary((PADDING_WORD, UNKNOWN_WORD, *tokenized.words))
    lengths = np.minimum(tokenized.lengths, reading.longest)
    order = np.argsort(lengths, kind="stable")
    apply = jax.jit(model.apply)
    found: dict[int, Prediction] = {}
    for start in range(0, len(order), MOST_ROWS):
        rows = order[start : start + MOST_ROWS]
        # Few shapes, for each is compiled: powers of two, filled up with texts once more.
        filled = np.resize(rows, _next_power(len(rows), 1))
        time = min(_next_power(int(lengths[rows].max()), SHORTEST), reading.longest)
        time = reading.longest if reading.padded else time
        ids, words = (
            encode(tokenized, vocabulary, filled, length=time, keep=reading.keep)
            for vocabulary in (reading.vocabulary, spelling)
        )
        logits = np.asarray(apply({"params": params}, ids, lengths[filled]))
        for place, (row, shares) in enumerate(zip(rows, _softmax(logits), strict=False)):
            real = slice(0, lengths[row])
            unknown = words[place, real][ids[place, real] == UNKNOWN_ID]
            found[row] = Prediction(
                label=metadata["class_names"][int(np.argmax(shares))],
                probabilities=dict(zip(metadata["class_names"], map(float, shares), strict=True)),
                words=int(lengths[row]),
                unknown=tuple(spelling.words[word] for word in unknown),
            )
    return [found[row] for row in range(len(texts))]


def reading_of(metadata: Mapping[str, Any]) -> Reading:
    """How the training of a ticket read its texts.

    Raises:
      UserError: its vocabulary or a setting is not one of this project; or its head reads the
        last padded position, and it does not say how far texts were padded.
    """
    words = metadata["vocabulary"]
    if words[:2] != [PADDING_WORD, UNKNOWN_WORD]:
        raise UserError(
            f"the ticket's vocabulary does not begin with {PADDING_WORD} and {UNKNOWN_WORD}: "
            "expected a ticket of lth_flax; give another"
        )
    settings = metadata.get("settings", {})
    tokenizer, keep = settings.get("tokenizer", "words"), settings.get("keep", "end")
    longest = settings.get("max_length", 0)
    padded = metadata["model"].get("readout") == "last_position"
    if padded:
        longest = metadata.get("padded_length", 0)
        if not longest:
            raise UserError(
                "the ticket's head reads the last padded position, and it does not say how far "
                "texts were padded: find the ticket again with this version"
            )
    # Tickets of before do not say it: no function read their data.
    cleaning = metadata.get("cleaning", cleaning_of(str(metadata.get("dataset"))))
    for name, value, fits in (
        ("cleaning", cleaning, isinstance(cleaning, str) and cleaning in CLEANERS),
        ("tokenizer", tokenizer, isinstance(tokenizer, str) and tokenizer in TOKENIZERS),
        ("keep", keep, keep in ("start", "end")),
        ("length", longest, type(longest) is int and 0 <= longest <= _UNLIMITED),
    ):
        if not fits:
            raise UserError(
                f"the ticket's texts were read with {name} {reprlib.repr(value)}, which is not "
                "known here: update lth_flax, or give another ticket"
            )
    return Reading(
        cleaning, tokenizer, Vocabulary(tuple(words)), longest or _UNLIMITED, keep, padded
    )


def _next_power(number: int, least: int) -> int:
    while least < number:
        least *= 2
    return least


def _softmax(logits: Float[np.ndarray, "texts classes"]) -> Float[np.ndarray, "texts classes"]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
