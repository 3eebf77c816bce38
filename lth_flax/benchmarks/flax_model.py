"""The same classifier from Flax's own parts: `nn.RNN` over `nn.OptimizedLSTMCell`."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class FlaxClassifier(nn.Module):
    """Takes and gives what `BiLSTMClassifier` does."""

    vocabulary_size: int
    embedding_size: int
    hidden_size: int
    num_layers: int
    num_classes: int
    dropout: float = 0.0

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "batch time"],
        lengths: Int[Array, " batch"],
        *,
        deterministic: bool = True,
    ) -> Float[Array, "batch classes"]:
        states = nn.Embed(self.vocabulary_size, self.embedding_size, name="embedding")(tokens)
        finals: list[Array] = []
        for layer in range(self.num_layers):
            if layer:
                dropout = nn.Dropout(self.dropout, broadcast_dims=(1,))
                states = dropout(states, deterministic=deterministic)
            outputs, finals = [], []
            for reverse in (False, True):
                rnn = nn.RNN(
                    nn.OptimizedLSTMCell(self.hidden_size),
                    reverse=reverse,
                    keep_order=True,
                    return_carry=True,
                    name=f"lstm_{layer}_{'backward' if reverse else 'forward'}",
                )
                (_, final), output = rnn(states, seq_lengths=lengths)
                outputs.append(output)
                finals.append(final)
            states = jnp.concatenate(outputs, axis=-1)
        final = jnp.concatenate(finals, axis=-1)
        final = nn.Dropout(self.dropout)(final, deterministic=deterministic)
        return nn.Dense(self.num_classes, name="head")(final)
