"""The text classifier: embedding, stacked bidirectional LSTM, dropout, linear head."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lth_flax.errors import UserError
from lth_flax.models import lstm
from lth_flax.models.whole_numbers import checked_lengths, checked_tokens
from lth_flax.types import READOUTS


def _gate_initializer(initializer):
    """Draws each of the four gates of a kernel as a matrix of its own."""

    def init(key, shape, dtype=jnp.float32):
        rows, columns = shape
        keys = jax.random.split(key, 4)
        return jnp.concatenate([initializer(k, (rows, columns // 4), dtype) for k in keys], axis=1)

    return init


def _forget_bias(key, shape, dtype=jnp.float32):
    """Zero, and 1 for the forget gate (Jozefowicz et al. 2015)."""
    del key
    return jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


class _Direction(nn.Module):
    """Holds the parameters of one direction of one layer."""

    hidden_size: int

    @nn.compact
    def __call__(self, features: int) -> dict[str, Array]:
        gates = 4 * self.hidden_size
        glorot = _gate_initializer(nn.initializers.glorot_uniform())
        orthogonal = _gate_initializer(nn.initializers.orthogonal())
        return {
            "input_kernel": self.param("input_kernel", glorot, (features, gates)),
            "recurrent_kernel": self.param(
                "recurrent_kernel", orthogonal, (self.hidden_size, gates)
            ),
            "bias": self.param("bias", _forget_bias, (gates,)),
        }


class _Layer(nn.Module):
    hidden_size: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "time batch features"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "time batch 2*hidden"]:
        features = inputs.shape[-1]
        layer_params = {
            name: _Direction(self.hidden_size, name=name)(features) for name in lstm.DIRECTIONS
        }
        return lstm.layer_outputs(layer_params, inputs, lengths)


class BiLSTMClassifier(nn.Module):
    """Reads padded token ids, answers with one logit per class.

    The head reads both directions' final states at the real ends of the text,
    so padding a batch further changes nothing. Dropout is drawn once per text
    and feature and held over time (Gal & Ghahramani, arXiv 1512.05287): it does
    not depend on how far a batch is padded, and costs one draw per text.

    With `readout="last_position"` padding is read like text and the head reads
    the outputs at the last padded position: what an LSTM without lengths does,
    and the code behind the paper did. There, padding further changes the answer.

    Lengths beyond the padded time and token ids outside the vocabulary are an error
    where they are concrete; traced ones (under `jit`) are clipped. See `models.whole_numbers`.

    Parameters, as a plain dict:
      embedding/embedding [vocabulary, embed];
      lstm_K/{forward,backward}/{input_kernel,recurrent_kernel,bias};
      head/kernel [2 * hidden, classes], head/bias [classes].
    """

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    num_classes: int
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    dropout_between_layers: bool = True
    readout: str = "final"

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch time"],
        lengths: Int[Array, " batch"],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "batch classes"]:
        if self.readout not in READOUTS:
            raise UserError(f"readout must be one of {', '.join(READOUTS)}; found {self.readout!r}")
        if jnp.ndim(tokens) != 2:
            raise UserError(f"tokens must be [batch, time], found the shape {jnp.shape(tokens)}")
        batch, time = jnp.shape(tokens)
        lengths = checked_lengths(lengths, batch=batch, time=time)
        padded = self.readout == "last_position"
        if padded:
            lengths = jnp.full_like(lengths, time)
        real = lstm.real_steps(time, lengths).T
        tokens = checked_tokens(tokens, vocabulary_size=self.vocabulary_size, real=real)
        embed = nn.Embed(self.vocabulary_size, self.embedding_size, name="embedding")
        states = self._held_dropout(
            embed(tokens.T), self.embedding_dropout, deterministic, "embedding_dropout"
        )
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout_between_layers:
                # Names decide the draws: renaming one changes every recorded run.
                name = f"Dropout_{layer - 1}"
                states = self._held_dropout(states, self.dropout, deterministic, name)
            states = _Layer(self.hidden_size, name=f"lstm_{layer}")(states, lengths)
        final = states[-1] if padded and time else lstm.final_states(states, lengths)
        head_dropout = nn.Dropout(self.dropout, name=f"Dropout_{self.num_layers - 1}")
        final = head_dropout(final, deterministic=deterministic)
        return nn.Dense(self.num_classes, name="head")(final)

    def _held_dropout(self, states: Array, rate: float, deterministic: bool, name: str) -> Array:
        dropout = nn.Dropout(rate, broadcast_dims=(0,), name=name)
        return dropout(states, deterministic=deterministic)
