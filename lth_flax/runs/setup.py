"""From a task, examples and settings to everything that a run needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.arms import Family
from lth_flax.config import Config
from lth_flax.data.batches import SPLITS, batch_count, evaluation_batch_size
from lth_flax.errors import UserError, first_line
from lth_flax.numerics import pinned
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.units import chosen_groups
from lth_flax.randomness import key
from lth_flax.runs.devices import make_engine
from lth_flax.runs.platforms import host_device
from lth_flax.tasks import Examples, Task
from lth_flax.training.loop import Trainer
from lth_flax.training.optimizers import (
    OPTIMIZERS,
    Optimizer,
    keep_pruned,
    make_optimizer,
    make_schedule,
    weight_decay_of,
)
from lth_flax.training.programs import Workload
from lth_flax.training.steps import Recipe
from lth_flax.training.table import Start
from lth_flax.types import Mask, Params, UnitGroup

CACHE_BYTES = 2**26
"""Of networks that were drawn, for the levels to come; what is more is drawn again."""


class Initializer:
    """Draws networks: theta_0 of a seed, or its `draw`-th reinitialization, as host arrays."""

    def __init__(self, task: Task) -> None:
        self._init, self._finish = jax.jit(task.init), task.start
        self._drawn: dict[tuple[int, int | None], Params] = {}
        self._room = CACHE_BYTES

    def __call__(self, seed: int, draw: int | None = None) -> Params:
        params = self._drawn.get((seed, draw))
        if params is None:
            params = self._draw(seed, draw)
            size = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(params))
            if size <= self._room:
                self._drawn[seed, draw] = params
                self._room -= size
        return jax.tree_util.tree_map(np.copy, params)

    @pinned()
    def _draw(self, seed: int, draw: int | None) -> Params:
        if draw is None:
            init_key = key(seed, "initialization")
        else:
            init_key = key(seed, "reinitialization", draw)
        # On the CPU: orthogonal initialization is a decomposition, which Metal lacks,
        # and a seed means the same network on every backend.
        with jax.default_device(host_device()):
            params = jax.tree_util.tree_map(np.array, self._init(init_key))
        return params if self._finish is None else self._finish(params, seed)


@dataclass(frozen=True)
class Setup:
    """What the tables of one shape of network are trained with."""

    config: Config
    task: Task
    examples: Examples
    seeds: tuple[int, ...]
    trainer: Trainer
    settings: Mapping[str, Any]
    initialize: Initializer

    @property
    def steps_per_replicate(self) -> int:
        """Training steps of one replicate."""
        return self.trainer.workload.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        """Training steps of one epoch."""
        return self.trainer.steps_per_epoch(self.seeds[0])

    def start(self, seed: int, draw: int | None = None) -> Start:
        """The dense network of a seed at its beginning, or its `draw`-th fresh one."""
        params = self.initialize(seed, draw)
        return Start(params, self.full_mask(params))

    def check_fresh(self) -> None:
        """A control that starts from the ticket's own weights would be the ticket again.

        Raises:
          UserError: init draws the same weights for every key.
        """
        drawn = self.initialize(self.seeds[0]), self.initialize(self.seeds[0], 0)
        one, other = map(jax.tree_util.tree_leaves, drawn)
        if all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True)):
            raise UserError(
                "the task's init returned the same weights for two keys, so that fresh weights "
                "would be the ticket's own: expected it to draw them from its key with jax.random"
            )

    def family(self, seed: int) -> Family:
        """What the arms of a seed share."""
        params = self.initialize(seed)
        return Family(
            seed,
            params,
            lambda draw: self.initialize(seed, draw),
            model=self.task.model,
            groups=self.groups(params),
        )

    def groups(self, params: Params) -> tuple[UnitGroup, ...]:
        """The units that are pruned as a whole; none where single weights are.

        Raises:
          UserError: the network has none of the kind, or its task does not say; or a method
            finds the mask in training, of single weights.
        """
        if not self.config.structure:
            return ()
        if self.config.method is not None:
            raise UserError(
                f"method={self.config.text('method')} prunes single weights: expected it without "
                f"structure={','.join(self.config.structure)}; leave one of them out"
            )
        if self.task.model is None or self.task.model.units is None:
            raise UserError(
                f"structure={','.join(self.config.structure)} needs a network that says what its "
                "units are: give Task(model=ModelInfo(..., units=...)), or leave structure out"
            )
        return chosen_groups(
            self.task.model.units(params), self.config.structure, self.full_mask(params)
        )

    def full_mask(self, params: Params) -> Mask:
        """The mask of the dense network, of what `prunable` names."""
        try:
            return full_mask(params, self.config.function("prunable"))
        except ValueError as error:
            raise UserError(f"{error}; see prunable") from None
        except Exception as error:  # whatever someone's function raises
            raise UserError(f"{first_line(error)}; see prunable, (path, leaf) -> bool") from error


def build(
    config: Config,
    task: Task,
    examples: Examples,
    seeds: Sequence[int],
    *,
    epochs: int,
    rows: int,
    then_constant: bool = False,
) -> Setup:
    """The trainer of one shape of network.

    Args:
      rows: of the largest table.
      then_constant: whether the learning rate is constant after the last epoch.

    Raises:
      UserError: an optimizer of one's own cannot take a step here.
    """
    workload = make_workload(examples, seeds, epochs=epochs, batch_size=config.batch_size)
    total = epochs * batch_count(workload.members[seeds[0]]["train"], config.batch_size)
    optimizer = chosen_optimizer(config)
    if config.optimizer not in OPTIMIZERS:
        _check_step(config.text("optimizer"), optimizer, task)
    recipe = Recipe(
        loss_fn=task.loss,
        predict_fn=task.evaluate,
        optimizer=optimizer,
        schedule=make_schedule(
            config.lr_schedule,
            total_steps=total,
            warmup_steps=round(config.warmup * total),
            then_constant=then_constant,
        ),
        keep_mask=config.keep_mask,
        carry=task.carry,
        batch_size=config.batch_size,
    )
    initialize = Initializer(task)
    engine = make_engine(config, rows, recipe, workload, lambda: initialize(seeds[0]))

    validation = cache(lambda seed: examples.of(seed, "validation"))

    def score(seed: int, outputs: Mapping[str, np.ndarray]) -> float:
        return task.measure(outputs, validation(seed))[task.primary]

    setup = Setup(
        config=config,
        task=task,
        examples=examples,
        seeds=tuple(seeds),
        trainer=Trainer(engine, recipe, workload, score, task.higher_is_better),
        settings={**training_settings(config), **task.settings, "epochs": epochs},
        initialize=initialize,
    )
    if config.structure:  # before anything is trained
        setup.groups(initialize(seeds[0]))
    return setup


def training_settings(config: Config) -> dict[str, Any]:
    """How every row is trained, for records."""
    found = config.of_role("training")
    if not config.structure:
        del found["structure"], found["unit_norm"]
    if config.optimizer in OPTIMIZERS:
        found["weight_decay"] = weight_decay_of(config.optimizer, config.weight_decay)
    return found


def make_workload(
    examples: Examples, seeds: Sequence[int], *, epochs: int, batch_size: int
) -> Workload:
    """Who sees which examples; nothing here depends on the network.

    Raises:
      UserError: a stream is too short for so many columns.
    """
    members = {seed: examples.draw(seed) for seed in seeds}
    per_bucket = [
        [len(members[seeds[0]][split][bucket]) for split in SPLITS[1:]]
        for bucket in range(len(examples.buckets))
    ]
    stretches = batch_count(members[seeds[0]]["train"], 1)
    if examples.are_streams and stretches < batch_size:
        raise UserError(
            f"batch_size={batch_size} columns of a stream of {stretches} stretches: expected at "
            "least one for each; give a longer stream, a smaller length or a smaller batch_size"
        )
    return Workload(
        buckets=examples.buckets,
        members=members,
        epochs=epochs,
        batch_size=batch_size,
        eval_batch_sizes=(min(batch_size, *per_bucket[0]),)
        if examples.are_streams
        else tuple(evaluation_batch_size(counts, largest=4 * batch_size) for counts in per_bucket),
        are_streams=examples.are_streams,
    )


def chosen_optimizer(config: Config) -> Optimizer:
    """The optimizer of the settings.

    Raises:
      UserError: it does not have one of the settings that were given.
    """
    if callable(config.optimizer) or ":" in config.optimizer:
        if config.freeze_embeddings:
            raise UserError(
                "--freeze_embeddings goes with a named --optimizer: freeze inside of the function"
            )
        found: Optimizer = config.function("optimizer")
        return found
    given = config.optimizer == "sgd" or config.changed(["momentum"])
    try:
        return make_optimizer(
            config.optimizer,
            weight_decay=config.weight_decay,
            momentum=config.momentum if given else None,
            clip_norm=config.clip_norm or None,
            frozen=(lambda path: "embedding" in path) if config.freeze_embeddings else None,
        )
    except ValueError as error:
        raise UserError(f"{error}; see --optimizer, --weight_decay and --momentum") from None


def _check_step(name: str, optimizer: Optimizer, task: Task) -> None:
    """Raises `UserError` for an optimizer that asks for more than gradients, or is none."""

    def step(params: Params) -> Any:
        full = jax.tree_util.tree_map(lambda leaf: jnp.ones(leaf.shape, bool), params)
        found = keep_pruned(optimizer(jnp.float32(0)), full)
        return found.update(params, found.init(params), params)

    params = jax.eval_shape(task.init, key(0, "initialization"))
    try:
        jax.eval_shape(step, params)
    except UserError:
        raise
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"the optimizer {name} cannot take a step here ({first_line(error)}): "
            "expected a function learning_rate -> optax transformation whose update takes "
            "gradients, state and parameters alone"
        ) from None
