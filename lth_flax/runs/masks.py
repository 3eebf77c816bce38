"""Masks from scores, computed by the engine for all rows of a slice at once.

Score and selection are one compiled program, the same for every level: how many weights each
row keeps is one of its values.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from lth_flax.data.stretches import in_columns
from lth_flax.numerics import pinned
from lth_flax.pruning.levels import Level, Schedule, kept_counts
from lth_flax.pruning.masks import apply_mask
from lth_flax.pruning.scores import GRADIENTS
from lth_flax.pruning.scores import random as random_scores
from lth_flax.pruning.select import Scope, keep_highest
from lth_flax.pruning.units import on_units, unit_scores, units_of
from lth_flax.randomness import generator, key
from lth_flax.runs.costs import Scoring
from lth_flax.runs.setup import Setup
from lth_flax.tasks import Examples
from lth_flax.training.steps import Recipe, gather
from lth_flax.types import Batch, Mask, Params

SLICES = 16
"""Whose masks are in memory: a level's masks start from those of the levels before."""


class Scored(NamedTuple):
    """A network that is pruned (host arrays): its parameters, mask, and how they began."""

    seed: int
    params: Params
    mask: Mask
    initial_params: Params


class Pruner:
    """Scores and prunes networks of one shape, as the settings say."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._score: Callable[..., Params] = setup.config.function("criterion")
        self._keywords = _named(self._score)
        self._reads_data = bool({"loss_fn", "batches"} & set(self._keywords))
        self._rounds = int(getattr(self._score, "rounds", 1))
        self._groups = setup.groups(setup.initialize(setup.seeds[0]))

    @pinned()
    def __call__(self, networks: Sequence[Scored], level: Level) -> list[Mask]:
        """The mask of each network at a level (host arrays), from its scores."""
        found: list[Mask] = []
        trainer = self._setup.trainer
        engine, place = trainer.engine, trainer.engine.place_rows
        buckets = trainer.programs.buckets if self._reads_data else ()
        for indices, real in engine.slices(len(networks)):
            some = [networks[index] for index in indices]
            rowed = (
                place([one.initial_params for one in some]),
                place([one.mask for one in some]),
                # One draw for all levels: masks of random scores nest.
                place([key(one.seed, "random scores") for one in some]),
                place([self._kept(one.mask, level) for one in some]),
                place([self._drawn(one.seed) for one in some]),
            )
            params = place([one.params for one in some])
            masks = jax.device_get(self._program(params, rowed, (buckets,)))
            found += [
                jax.tree_util.tree_map(lambda leaf, row=row: leaf[row], masks)
                for row in range(real)
            ]
        return found

    @property
    def cost(self) -> Scoring:
        """What a mask costs besides training."""
        reads, batch = self._reads_data, self._setup.config.batch_size
        gradients = GRADIENTS.get(inspect.unwrap(self._score), int(reads))
        # What reads no data has one input.
        size = sum(part.size for part in self._drawn(self._setup.seeds[0])) if reads else 1
        steps = gradients * -(-size // batch)
        return Scoring(self._rounds, steps, float(steps) if reads else gradients / batch)

    def _kept(self, mask: Mask, level: Level) -> Int[np.ndarray, "rounds groups"]:
        config = self._setup.config
        scope, schedule = cast(Scope, config.scope), cast(Schedule, config.schedule)
        if self._groups:
            mask = jax.device_get(units_of(mask, self._groups))
        return kept_counts(mask, level, scope=scope, schedule=schedule, rounds=self._rounds)

    def _drawn(self, seed: int) -> tuple[Int[np.ndarray, "..."], ...]:
        if not self._reads_data:
            return ()
        config, examples = self._setup.config, self._setup.examples
        if examples.are_streams:
            return (first_batches(examples, seed, config.score_examples, config.batch_size),)
        return balanced(examples, seed, config.score_examples)

    @cached_property
    def _program(self) -> Any:
        task, recipe = self._setup.task, self._setup.trainer.recipe
        score, scope = self._score, cast(Scope, self._setup.config.scope)
        groups, norm = self._groups, self._setup.config.unit_norm
        # One number per unit: a sum over its weights would tell wide layers from narrow ones.
        per_unit = bool(groups) and score is random_scores

        def found(
            params: Params,
            initial_params: Params,
            mask: Mask,
            score_key: jax.Array,
            kept: jax.Array,
            drawn: tuple[jax.Array, ...],
            buckets: tuple[Mapping[str, jax.Array], ...],
        ) -> Mask:
            batches = [
                gather(bucket, batch)
                for bucket, indices in zip(buckets, drawn, strict=True)
                if len(indices)
                for batch in (indices if indices.ndim == 2 else [indices])
            ]
            given = {
                "initial_params": initial_params,
                "loss_fn": loss_over(recipe, batches, score_key),
                "key": score_key,
                "model": task.model,
                "batches": batches,
            }
            keywords = {name: given[name] for name in self._keywords}

            def prune(number: Any, mask: Mask) -> Mask:
                scored = units_of(mask, groups) if per_unit else apply_mask(params, mask)
                scores = score(scored, **keywords)
                if groups and not per_unit:
                    scores = unit_scores(scores, groups, norm=norm)

                def keep(mask: Mask) -> Mask:
                    return keep_highest(scores, mask, kept[number], scope=scope)

                return on_units(mask, groups, keep)

            if kept.shape[0] == 1:
                return prune(0, mask)
            return jax.lax.fori_loop(0, kept.shape[0], prune, mask)

        return self._setup.trainer.engine.lift(found)


def by_slices(find: Callable[[Any, slice], list[Mask]], size: int) -> Callable[[Any, int], Mask]:
    """Finds masks of `size` rows at once for whoever asks for one: (what, number of row) -> mask.

    Args:
      find: (what, rows) -> their masks.
    """

    @lru_cache(maxsize=SLICES)
    def of_slice(what: Any, part: int) -> list[Mask]:
        return find(what, slice(part * size, (part + 1) * size))

    return lambda what, number: of_slice(what, number // size)[number % size]


_KEYWORDS = ("initial_params", "loss_fn", "key", "model", "batches")


def _named(score: Callable[..., Any]) -> tuple[str, ...]:
    """The keywords that a score's signature names; all of them where it takes any.

    A signature that ends in `**_` takes what others need, and looks at none of it.
    """
    parameters = inspect.signature(score).parameters
    rest = [name for name, one in parameters.items() if one.kind is one.VAR_KEYWORD]
    if rest and not rest[0].startswith("_"):
        return _KEYWORDS
    return tuple(name for name in _KEYWORDS if name in parameters)


def loss_over(
    recipe: Recipe, batches: Sequence[Batch], drop: jax.Array
) -> Callable[[Params], jax.Array]:
    """params -> the mean loss over the examples of all batches.

    Without dropout where the task's `evaluate` tells a loss; else that of training, with `drop`
    for its noise. What a task remembers of a batch it has in the next; gradients stop there.
    """

    def of_batch(params: Params, number: int, batch: Batch, memory: Any) -> tuple[jax.Array, Any]:
        weight = batch["weight"]
        outputs, after = recipe.predict(params, batch, memory)
        if "loss" in outputs:
            return jnp.sum(outputs["loss"] * weight), after
        drawn = jax.random.fold_in(drop, number)
        mean, after = recipe.loss(params, batch, drawn, memory)
        return mean * jnp.sum(weight), after

    def loss(params: Params) -> jax.Array:
        total, memory = [], recipe.empty(len(batches[0]["weight"]))
        for number, batch in enumerate(batches):
            found, memory = of_batch(params, number, batch, memory)
            memory = jax.lax.stop_gradient(memory)
            total.append(found)
        size = [jnp.sum(batch["weight"]) for batch in batches]
        return sum(total[1:], total[0]) / sum(size[1:], size[0])

    return loss


def first_batches(
    examples: Examples, seed: int, number: int, batch_size: int
) -> Int[np.ndarray, "steps columns"]:
    """The first batches of an epoch of streams, about `number` stretches in all; see `balanced`."""
    (train,) = examples.draw(seed)["train"]
    columns = min(batch_size, number)
    return in_columns(train, columns)[: number // columns]


def balanced(
    examples: Examples, seed: int, number: int
) -> tuple[Int[np.ndarray, " examples"], ...]:
    """Training examples of a seed for its scores: for each bucket, positions in its arrays.

    Of every bucket its share of `number`, so that the sizes are those of every seed. Classes
    ("labels" of whole numbers) are in equal numbers, as far as a bucket has them.
    """
    members = examples.draw(seed)["train"]
    sizes = np.array([len(part) for part in members])
    exact = sizes * (min(number, int(sizes.sum())) / sizes.sum())
    quota = np.floor(exact).astype(int)
    quota[np.argsort(-(exact - quota), kind="stable")[: round(exact.sum()) - quota.sum()]] += 1
    rng = generator(seed, "score examples")
    taken: dict[int, int] = {}
    found = []
    for bucket, part, count in zip(examples.buckets, members, quota, strict=True):
        order = rng.permutation(part)
        labels = bucket.get("labels", np.zeros(0))
        classes = np.zeros(len(order), int)
        if labels.ndim == 1 and labels.dtype.kind in "iub" and len(labels):
            classes = labels[order].astype(int)
        waiting = {c: list(order[classes == c]) for c in rng.permutation(np.unique(classes))}
        chosen = []
        for _ in range(count):
            rarest = min((c for c in waiting if waiting[c]), key=lambda c: taken.get(int(c), 0))
            taken[int(rarest)] = taken.get(int(rarest), 0) + 1
            chosen.append(waiting[rarest].pop())
        found.append(np.sort(np.array(chosen, np.int32)))
    return tuple(found)
