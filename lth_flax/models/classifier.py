"""The text classifier: embedding, stacked bidirectional LSTM, dropout, linear head."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lth_flax.errors import UserError
from lth_flax.models import lstm
from lth_flax.models.whole_numbers import checked_lengths, checked_tokens
from lth_flax.types import READOUTS, Params


def _unless_empty(initializer):
    """Of a kernel without rows or columns there is nothing to draw, and no fan to divide by."""

    def init(key, shape, dtype=jnp.float32):
        return initializer(key, shape, dtype) if 0 not in shape else jnp.zeros(shape, dtype)

    return init


def _gate_initializer(initializer):
    """Draws each of the four gates of a kernel as a matrix of its own."""

    @_unless_empty
    def init(key, shape, dtype=jnp.float32):
        rows, columns = shape
        keys = jax.random.split(key, 4)
        return jnp.concatenate([initializer(k, (rows, columns // 4), dtype) for k in keys], axis=1)

    return init


def _forget_bias(key, shape, dtype=jnp.float32):
    """Zero, and 1 for the forget gate (Jozefowicz et al. 2015)."""
    del key
    return jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0], dtype), shape[0] // 4)


class Direction(nn.Module):
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
    widths: tuple[int, int]

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "time batch features"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "time batch units"]:
        features = inputs.shape[-1]
        layer_params = {
            name: Direction(width, name=name)(features)
            for name, width in zip(lstm.DIRECTIONS, self.widths, strict=True)
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

    `hidden_size` is the number of units per direction; or, as `tickets.compact` leaves them, a
    pair (forward, backward) for each layer. A width may be 0, and so may `embedding_size`.
    """

    vocabulary_size: int
    embedding_size: int
    hidden_size: int | tuple[tuple[int, int], ...]
    num_layers: int
    num_classes: int
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    dropout_between_layers: bool = True
    readout: str = "final"

    @property
    def widths(self) -> tuple[tuple[int, int], ...]:
        """The numbers of units (forward, backward) of every layer.

        Raises:
          UserError: `hidden_size` has not one pair for each of the layers.
        """
        return _widths(self.hidden_size, self.num_layers)

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this model again: `BiLSTMClassifier(**settings)`; JSON values."""
        found = fields_of(self)
        if isinstance(self.hidden_size, Sequence):
            found["hidden_size"] = [list(pair) for pair in self.widths]
        return found

    def resized(self, params: Params) -> "BiLSTMClassifier":
        """The same model with the widths of other parameters."""
        widths = tuple(
            tuple(
                jnp.shape(params[f"lstm_{layer}"][direction]["recurrent_kernel"])[0]
                for direction in lstm.DIRECTIONS
            )
            for layer in range(self.num_layers)
        )
        features = jnp.shape(params["embedding"]["embedding"])[1]
        sizes = set(sum(widths, ()))
        size = widths[0][0] if len(sizes) == 1 and min(*sizes, features) else widths
        return self.clone(embedding_size=features, hidden_size=size)

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
        real = lstm.real_steps(time, lengths)
        tokens = checked_tokens(tokens, vocabulary_size=self.vocabulary_size, real=real)
        embed = nn.Embed(
            self.vocabulary_size,
            self.embedding_size,
            embedding_init=_unless_empty(nn.Embed.embedding_init),
            name="embedding",
        )
        # Held over time. Names decide the draws: renaming one changes every recorded run.
        held: Any = {"broadcast_dims": (0,), "deterministic": deterministic}
        dropout = nn.Dropout(self.embedding_dropout, name="embedding_dropout", **held)
        states = dropout(embed(tokens))
        widths = self.widths
        for layer in range(self.num_layers):
            if layer > 0 and self.dropout_between_layers:
                states = nn.Dropout(self.dropout, name=f"Dropout_{layer - 1}", **held)(states)
            states = _Layer(widths[layer], name=f"lstm_{layer}")(states, lengths)
        final = (
            states[-1]
            if padded and time
            else lstm.final_states(states, lengths, forward=widths[-1][0])
        )
        head_dropout = nn.Dropout(self.dropout, name=f"Dropout_{self.num_layers - 1}")
        final = head_dropout(final, deterministic=deterministic)
        kernel_init = _unless_empty(nn.Dense.kernel_init)
        return nn.Dense(self.num_classes, kernel_init=kernel_init, name="head")(final)


def fields_of(model: nn.Module) -> dict[str, Any]:
    """The fields of a module, without those of Flax."""
    names = [field.name for field in dataclasses.fields(model)]  # type: ignore[arg-type]
    return {name: getattr(model, name) for name in names if name not in ("parent", "name")}


def _widths(size: Any, num_layers: int) -> tuple[tuple[int, int], ...]:
    if not isinstance(size, Sequence):
        return ((int(size), int(size)),) * num_layers
    try:
        pairs = tuple((int(forward), int(backward)) for forward, backward in size)
        if len(pairs) != num_layers:
            raise ValueError
    except (TypeError, ValueError):
        raise UserError(
            f"hidden_size={size!r}: expected a number of units, or a pair (forward, backward) "
            f"for each of the {num_layers} layers"
        ) from None
    return pairs


def parameter_shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter, "lstm_0/forward/bias", from `BiLSTMClassifier.settings`.

    Computed from the numbers alone, without building anything.
    """
    features, layers = settings["embedding_size"], settings["num_layers"]
    shapes: dict[str, tuple[int, ...]] = {
        "embedding/embedding": (settings["vocabulary_size"], features)
    }
    for layer, widths in enumerate(_widths(settings["hidden_size"], layers)):
        for direction, width in zip(lstm.DIRECTIONS, widths, strict=True):
            name = f"lstm_{layer}/{direction}"
            shapes[f"{name}/input_kernel"] = (features, 4 * width)
            shapes[f"{name}/recurrent_kernel"] = (width, 4 * width)
            shapes[f"{name}/bias"] = (4 * width,)
        features = sum(widths)
    shapes["head/kernel"] = (features, settings["num_classes"])
    shapes["head/bias"] = (settings["num_classes"],)
    return shapes
