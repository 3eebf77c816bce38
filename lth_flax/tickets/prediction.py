"""What a ticket says of new texts, read as the texts that it was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from lth_flax.data.cleaning import cleaner_of
from lth_flax.data.text import (
    PADDING_WORD,
    UNKNOWN_WORD,
    Encoded,
    TokenizedTexts,
    Vocabulary,
    encode,
    intern,
    pad,
)
from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.types import Params

MOST_ROWS = 64
SHORTEST = 8


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
    tokenized, encoded = read_texts(metadata, texts)
    probabilities = _softmax(logits_of(model, params, metadata, encoded))
    names: list[str] = metadata["class_names"]
    spelled = _encoded(
        tokenized, Vocabulary((PADDING_WORD, UNKNOWN_WORD, *tokenized.words)), metadata
    )
    unknown_id = metadata["vocabulary"].index(UNKNOWN_WORD)
    found = []
    for row, shares in enumerate(probabilities):
        here = slice(encoded.offsets[row], encoded.offsets[row + 1])
        ids, words = encoded.token_ids[here], spelled.token_ids[here] - 2
        found.append(
            Prediction(
                label=names[int(np.argmax(shares))],
                probabilities=dict(zip(names, map(float, shares), strict=True)),
                words=len(ids),
                unknown=tuple(tokenized.words[word] for word in words[ids == unknown_id]),
            )
        )
    return found


def read_texts(metadata: Mapping[str, Any], texts: Sequence[str]) -> tuple[TokenizedTexts, Encoded]:
    """Texts as a ticket's training read them: tokens, and ids of its vocabulary.

    Raises:
      UserError: its vocabulary is not one of this project; or its head reads the last padded
        position, and it does not say how far texts were padded.
    """
    vocabulary = metadata["vocabulary"]
    if vocabulary[:2] != [PADDING_WORD, UNKNOWN_WORD]:
        raise UserError(
            f"the ticket's vocabulary does not begin with {PADDING_WORD} and {UNKNOWN_WORD}: "
            "expected a ticket of lth_flax; give another"
        )
    clean = cleaner_of(str(metadata.get("dataset")))
    settings = metadata.get("settings", {})
    tokenized = intern([clean(text) for text in texts], settings.get("tokenizer", "words"))
    return tokenized, _encoded(tokenized, Vocabulary(tuple(vocabulary)), metadata)


def _encoded(
    tokenized: TokenizedTexts, vocabulary: Vocabulary, metadata: Mapping[str, Any]
) -> Encoded:
    settings = metadata.get("settings", {})
    return encode(
        tokenized,
        vocabulary,
        np.arange(len(tokenized.lengths)),
        max_length=_padded_length(metadata) or settings.get("max_length") or None,
        keep=settings.get("keep", "end"),
    )


def _padded_length(metadata: Mapping[str, Any]) -> int:
    """How far all texts are padded, where the answer depends on it; else 0."""
    if metadata["model"].get("readout") != "last_position":
        return 0
    length = metadata.get("padded_length")
    if type(length) is not int or length < 1:
        raise UserError(
            "the ticket's head reads the last padded position, and it does not say how far texts "
            "were padded: find the ticket again with this version"
        )
    return length


def logits_of(
    model: BiLSTMClassifier, params: Params, metadata: Mapping[str, Any], encoded: Encoded
) -> Float[np.ndarray, "texts classes"]:
    """The logits of encoded texts, computed in batches of similar length."""
    lengths = encoded.lengths
    apply = jax.jit(model.apply)
    logits = np.zeros((len(lengths), model.num_classes), np.float32)
    order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), MOST_ROWS):
        rows = order[start : start + MOST_ROWS]
        # Few shapes, for each is compiled: powers of two, filled up with texts once more.
        time = _padded_length(metadata) or _next_power(int(lengths[rows].max()), SHORTEST)
        filled = np.resize(rows, _next_power(len(rows), 1))
        answers: Array = apply({"params": params}, pad(encoded, filled, time), lengths[filled])
        logits[rows] = np.asarray(answers)[: len(rows)]
    return logits


def _next_power(number: int, least: int) -> int:
    while least < number:
        least *= 2
    return least


def _softmax(logits: Float[np.ndarray, "texts classes"]) -> Float[np.ndarray, "texts classes"]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)
