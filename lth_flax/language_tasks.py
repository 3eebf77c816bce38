"""Language modelling as a task: from settings to a stacked LSTM, and a corpus as streams."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from lth_flax.config import Config
from lth_flax.data.corpus import Corpus, read_corpus
from lth_flax.ignored import refuse_ignored
from lth_flax.models import knowledge
from lth_flax.models.depth import with_depth
from lth_flax.models.language_model import LSTMLanguageModel, States
from lth_flax.pruning.connectivity import is_connected
from lth_flax.pruning.diagnostics import diagnostics
from lth_flax.tasks import Arrays, Examples, ModelInfo, Task
from lth_flax.training.classification import cross_entropy
from lth_flax.types import Array, Batch, Params

SETTINGS = (
    "task", "tokenizer", "vocabulary_size", "min_count", "validation_share", "test_share",
    "max_tokens", "bptt", "embedding_size", "hidden_size", "tied", "dropout", "embedding_dropout",
)  # fmt: skip
"""What of the settings a language model is made with, besides its depth."""


def language_task(config: Config, corpus: Corpus, *, num_layers: int) -> Task:
    """The language model of the settings, of one depth."""
    model = LSTMLanguageModel(
        vocabulary_size=len(corpus.vocabulary),
        embedding_size=config.embedding_size,
        hidden_size=config.hidden_size,
        num_layers=num_layers,
        tied=config.tied,
        dropout=config.dropout,
        embedding_dropout=config.embedding_dropout,
    )

    def init(key: Array) -> Params:
        params = model.init(key, jnp.zeros((1, 1), jnp.int32), model.empty(1))["params"]
        return with_depth(with_depth(params, 2), num_layers) if config.share_layers else params

    def losses(params: Params, batch: Batch, states: States, **how: Any) -> tuple[Array, States]:
        """-log p of the next token, in nats, the mean of each stretch [B]."""
        found: Any = model.apply({"params": params}, batch["tokens"], states, **how)
        logits, after = found
        flat = cross_entropy(logits.reshape(-1, logits.shape[-1]), batch["targets"].reshape(-1))
        return jnp.mean(flat.reshape(batch["targets"].shape), axis=1), after

    def loss(params: Params, batch: Batch, key: Array, states: States) -> tuple[Array, States]:
        each, states = losses(params, batch, states, deterministic=False, rngs={"dropout": key})
        weight = batch["weight"]
        return jnp.sum(each * weight) / jnp.maximum(jnp.sum(weight), 1.0), states

    def evaluate(params: Params, batch: Batch, states: States) -> tuple[dict[str, Array], States]:
        each, states = losses(params, batch, states)
        return {"loss": each}, states

    tied = "tied" if config.tied else "untied"
    return Task(
        init,
        loss,
        evaluate,
        metrics=perplexity_metrics,
        primary="perplexity",
        higher_is_better=False,
        carry=model.empty,
        model=ModelInfo(
            settings=model.settings,
            words=f"{num_layers}-layer LSTM language model, {model.hidden_size} units, {tied}",
            is_connected=is_connected,
            gates=knowledge.gates,
            diagnostics=diagnostics,
            with_depth=with_depth,
        ),
        name=config.task,
        settings={
            **{name: getattr(config, name) for name in SETTINGS},
            "num_layers": num_layers,
            **({"share_layers": True} if config.share_layers else {}),
        },
    )


def perplexity_metrics(outputs: Arrays, examples: Arrays) -> dict[str, float]:
    """Perplexity, exp of the mean loss per token; and that loss, in nats.

    All stretches have as many tokens.
    """
    del examples
    loss = float(np.mean(outputs["loss"], dtype=np.float64))
    with np.errstate(over="ignore"):
        return {"perplexity": float(np.exp(loss)), "loss": loss}


def language_examples(config: Config, corpus: Corpus) -> Examples:
    """The corpus as streams, with what is said of it."""
    found = Examples.streams(*corpus.splits.values(), length=config.bptt)
    sizes = " + ".join(f"{len(ids):,} {split}" for split, ids in corpus.splits.items())
    unknown = corpus.unknown_shares

    def of_ticket(seed: int) -> Mapping[str, Any]:
        del seed  # the same of all
        return {
            "vocabulary": list(corpus.vocabulary.words),
            "tokenizer": corpus.tokenizer,
            "cleaning": corpus.cleaning,
        }

    return replace(
        found,
        name=corpus.name,
        about={
            "tokens": {split: len(ids) for split, ids in corpus.splits.items()},
            "words": len(corpus.vocabulary),
            "unknown_shares": unknown,
            "tokenizer": corpus.tokenizer,
        },
        sentences=(
            f"{corpus.name}: {sizes} tokens, {len(corpus.vocabulary):,} different ones "
            f"({corpus.tokenizer}); unknown are {unknown['train']:.1%} in training, "
            f"{unknown['test']:.1%} in test",
        ),
        of_ticket=of_ticket,
    )


def language_model(**settings: Any) -> tuple[Task, Examples]:
    """A language model and its corpus, for `find_tickets`: what `--task=language_model` trains.

    Args:
      settings: of data and model, by the names of their flags: `language_model(
        data_file="a.txt", hidden_size=128, bptt=35)`.

    Raises:
      UserError: a value is none of its setting, or the data cannot be read.
    """
    config = Config(**{"task": "language_model", **settings})
    refuse_ignored(config)
    corpus = read_corpus(config)
    task = language_task(config, corpus, num_layers=config.one("num_layers"))
    return task, language_examples(config, corpus)
