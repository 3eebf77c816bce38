"""The language model: embedding, stacked LSTM of one direction, dropout, a logit for every word."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lth_flax.errors import UserError
from lth_flax.models.classifier import Direction, fields_of
from lth_flax.models.lstm import State, forward_lstm
from lth_flax.models.whole_numbers import checked_tokens

States = tuple[State, ...]
"""(h, c) of every layer."""


class LSTMLanguageModel(nn.Module):
    """Reads token ids, on from the state of what came before, and says what may follow each.

    Dropout is that of `BiLSTMClassifier`: between layers and before the output, drawn once per
    stretch, sequence and feature (Gal & Ghahramani, arXiv 1512.05287).

    Parameters, as a plain dict:
      embedding/embedding [vocabulary, embed];
      lstm_K/forward/{input_kernel,recurrent_kernel,bias};
      head/embedding [vocabulary, hidden], head/bias [vocabulary].
    The words of the output have vectors as those of the input have. With `tied` these are the same
    (Press & Wolf, arXiv 1608.05859; Inan et al., 1611.01462), and head has its bias alone.
    """

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    tied: bool = False
    dropout: float = 0.0
    embedding_dropout: float = 0.0

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this model again: `LSTMLanguageModel(**settings)`; JSON values."""
        return fields_of(self)

    def empty(self, batch: int) -> States:
        """The state before any token."""
        zero = jnp.zeros((batch, self.hidden_size), jnp.float32)
        return ((zero, zero),) * self.num_layers

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch time"], states: States, *, deterministic: bool = True
    ) -> tuple[Float[Array, "batch time vocabulary"], States]:
        """The logits of the token after each of these, and the state after the last of them.

        Raises:
          UserError: concrete token ids outside the vocabulary; or `tied`, and a word's vector is
            not as long as a state.
        """
        if self.tied and self.embedding_size != self.hidden_size:
            raise UserError(
                f"a tied output reads states with the word vectors: embedding_size="
                f"{self.embedding_size} and hidden_size={self.hidden_size} must be equal"
            )
        real = jnp.ones(jnp.shape(tokens)[::-1], bool)
        tokens = checked_tokens(tokens, vocabulary_size=self.vocabulary_size, real=real)
        embed = nn.Embed(self.vocabulary_size, self.embedding_size, name="embedding")
        held: Any = {"broadcast_dims": (0,), "deterministic": deterministic}
        inputs = nn.Dropout(self.embedding_dropout, name="embedding_dropout", **held)(embed(tokens))
        after = []
        for layer, state in enumerate(states):
            params = _Layer(self.hidden_size, name=f"lstm_{layer}")(inputs.shape[-1])
            outputs, state = forward_lstm(params, inputs, state)
            after.append(state)
            inputs = nn.Dropout(self.dropout, name=f"Dropout_{layer}", **held)(outputs)
        table = embed.embedding if self.tied else None
        outputs = jnp.swapaxes(inputs, 0, 1)
        return _Output(self.vocabulary_size, name="head")(outputs, table), tuple(after)


class _Layer(nn.Module):
    """Holds the parameters of a layer."""

    hidden_size: int

    @nn.compact
    def __call__(self, features: int) -> dict[str, Array]:
        return Direction(self.hidden_size, name="forward")(features)


class _Output(nn.Module):
    """The product of a state with the vector of every word, and a bias."""

    vocabulary_size: int

    @nn.compact
    def __call__(self, states: Array, table: Array | None) -> Array:
        if table is None:
            shape = (self.vocabulary_size, states.shape[-1])
            table = self.param("embedding", nn.Embed.embedding_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.vocabulary_size,))
        return jnp.einsum("...h,vh->...v", states, table) + bias
