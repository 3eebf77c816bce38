"""A ticket of a language model: how likely a text is, and how it goes on."""

import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.data.cleaning import CLEANERS
from lth_flax.data.corpus import END_WORD, SPLITTERS
from lth_flax.data.text import PADDING_WORD, UNKNOWN_ID, UNKNOWN_WORD, Vocabulary
from lth_flax.errors import UserError
from lth_flax.models.language_model import LSTMLanguageModel, States
from lth_flax.types import Params

TASK = "language_model"
STRETCH = 32
"""Tokens that are read at once: every text with one program."""


class Score(NamedTuple):
    """How a text reads to a language model.

    loss: -log p of a token, in nats, the mean over its tokens and the end after them.
    words: tokens of the text; unknown: those of them that the ticket has no vector of its own for.
    """

    loss: float
    words: int
    unknown: tuple[str, ...]

    @property
    def perplexity(self) -> float:
        """exp of the loss."""
        return math.exp(self.loss) if self.loss < 700 else math.inf


@dataclass(frozen=True)
class Language:
    """A language model with the words that it knows. A text begins where another has ended."""

    model: LSTMLanguageModel
    params: Params
    vocabulary: Vocabulary
    split: Callable[[str], list[str]]
    tokenizer: str

    @classmethod
    def of(cls, params: Params, metadata: Mapping[str, Any]) -> "Language":
        """That of a ticket.

        Raises:
          UserError: it is a ticket of another task, or does not say what it has to.
        """
        if metadata.get("task") != TASK:
            raise UserError(
                f"this is a ticket of {reprlib.repr(metadata.get('task'))}: expected one of "
                f"{TASK}, which scores and continues texts"
            )
        try:
            model = LSTMLanguageModel(**metadata["model"])
            words = tuple(map(str, metadata["vocabulary"]))
            tokenizer, clean = metadata["tokenizer"], CLEANERS[metadata["cleaning"]]
            split = SPLITTERS[tokenizer]
            stated = jax.eval_shape(
                lambda: model.init(jax.random.key(0), jnp.zeros((1, 1), int), model.empty(1))
            )["params"]
            shapes = [jax.tree_util.tree_map(jnp.shape, tree) for tree in (stated, params)]
            if shapes[0] != shapes[1] or len(words) != model.vocabulary_size:
                raise ValueError("its weights and words are not those of its model")
            if words[:2] != (PADDING_WORD, UNKNOWN_WORD) or END_WORD not in words:
                raise ValueError(f"its words lack {PADDING_WORD}, {UNKNOWN_WORD} or {END_WORD}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"the ticket does not say how its language model reads ({reason}): expected a "
                "ticket of lth_flax; give another"
            ) from None
        return cls(model, params, Vocabulary(words), lambda text: split(clean(text)), tokenizer)

    def score(self, texts: Sequence[str]) -> list[Score]:
        """How likely each text is."""
        found = []
        for text in texts:
            ids, unknown = self._ids(text)
            targets = np.append(ids[1:], self._end)
            logits, _ = self._read(ids)
            logits -= logits.max(axis=-1, keepdims=True)
            chosen = logits[np.arange(len(ids)), targets]
            losses = np.log(np.exp(logits).sum(axis=-1)) - chosen
            found.append(Score(float(losses.mean()), len(ids) - 1, unknown))
        return found

    def continued(self, text: str, tokens: int, *, temperature: float = 1.0, seed: int = 0) -> str:
        """The tokens that are drawn after a text, at most so many, joined as the tokenizer splits.

        The unknown word is never drawn; the end of the text ends them.

        Args:
          temperature: logits are divided by it; 0: the likeliest token.
        """
        rng = np.random.default_rng(seed)
        ids, _ = self._ids(text)
        logits, states = self._read(ids)
        found: list[str] = []
        while len(found) < tokens:
            last = logits[-1]
            last[: UNKNOWN_ID + 1] = -np.inf  # also padding
            if temperature:
                last = last / temperature
                last = last + rng.gumbel(size=len(last))
            token = int(np.argmax(last))
            if token == self._end:
                break
            found.append(self.vocabulary.words[token])
            logits, states = self._read(np.array([token]), states)
        return ("" if self.tokenizer == "characters" else " ").join(found)

    @property
    def _end(self) -> int:
        return self.vocabulary.ids[END_WORD]

    def _ids(self, text: str) -> tuple[np.ndarray, tuple[str, ...]]:
        """The end of the text before, and the tokens of this one; and which are unknown."""
        tokens = self.split(text)
        known = self.vocabulary.ids
        ids = [self._end, *(known.get(token, UNKNOWN_ID) for token in tokens)]
        return np.array(ids), tuple(token for token in tokens if token not in known)

    def _read(self, ids: np.ndarray, states: States | None = None) -> tuple[np.ndarray, States]:
        """Logits after every token, float64 [tokens, words], and the state after the last."""
        states = self.model.empty(1) if states is None else states
        found = []
        for start in range(0, len(ids), STRETCH):
            part = ids[start : start + STRETCH]
            size = STRETCH if len(part) == STRETCH else 1
            for at in range(0, len(part), size):
                logits, states = self._apply(self.params, part[None, at : at + size], states)
                found.append(np.asarray(logits[0], np.float64))
        return np.concatenate(found), states

    @cached_property
    def _apply(self) -> Any:
        return jax.jit(
            lambda params, ids, states: self.model.apply({"params": params}, ids, states)
        )
