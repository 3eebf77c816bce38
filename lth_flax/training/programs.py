"""The compiled programs of one recipe: one per shape and size of a slice, none compiled twice."""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.cores import cores_here
from lth_flax.data.batches import (
    SPLITS,
    Call,
    Epoch,
    Members,
    batch_counts,
    evaluation_calls,
)
from lth_flax.data.stretches import stream_call
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import (
    Recipe,
    Row,
    State,
    continued_state,
    initial_state,
    predict_levels,
    predict_steps,
    train_steps,
)
from lth_flax.types import Mask, Params


@dataclass(frozen=True)
class Workload:
    """What every row does: the examples, who sees which, for how long.

    buckets: resident examples, one tree of arrays (or `data.views.Views`) per compiled shape.
    members: per seed and split, positions in each bucket.
    eval_batch_sizes: per bucket, examples per batch of an evaluation.
    are_streams: whether examples are stretches of streams, which keep their order
      (`data.stretches`), in one bucket.
    """

    buckets: tuple[Mapping[str, Any], ...]
    members: Mapping[int, Mapping[str, Members]]
    epochs: int
    batch_size: int
    eval_batch_sizes: tuple[int, ...]
    are_streams: bool = False

    @cached_property
    def train_batches(self) -> tuple[int, ...]:
        """Per bucket, batches of an epoch: the same for all seeds."""
        (members, *_) = self.members.values()
        return batch_counts(members["train"], self.batch_size)

    @cached_property
    def eval_steps_per_call(self) -> tuple[int, ...]:
        """Per bucket, batches of the larger of the two parts that are scored, and at least one.

        A stream is evaluated in one call, whichever part it is of.
        """
        (members, *_) = self.members.values()
        parts = SPLITS if self.are_streams else SPLITS[1:]
        return tuple(
            max(1, *(-(-len(members[split][bucket]) // size) for split in parts))
            for bucket, size in enumerate(self.eval_batch_sizes)
        )


@dataclass
class Clock:
    """Seconds by what they were spent on."""

    compile: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0


@dataclass
class Programs:
    """Runs training and evaluation on slices of rows."""

    engine: Engine
    recipe: Recipe
    workload: Workload
    clock: Clock = field(default_factory=Clock)
    _compiled: dict[tuple[str, int, int], Any] = field(default_factory=dict)

    def initial(self, params: Params, masks: Mask, fixed: Row, start: int = 0) -> State:
        """A fresh state at step `start` for every row.

        Compiles everything when there are that many rows for the first time.
        """
        step = self.engine.place_stacked(np.full(_rows(fixed), start, np.int32))
        state = self._small["initial"](params, (masks, fixed, step), ())
        self._compile_all(state, fixed)
        return state

    def continued(self, state: State, opt_state: Any, carry: Any) -> State:
        """The state with another optimizer state under its masks, and another memory."""
        return self._small["continued"](state, (opt_state, carry), ())

    def place(self, epoch: Epoch) -> tuple[jax.Array, ...]:
        """What is in the batches of an epoch, where the rows are: for all of its calls."""
        return tuple(map(self.engine.place_stacked, epoch.indices))

    def train(
        self,
        state: State,
        fixed: Row,
        loss_sum: jax.Array,
        indices: Sequence[jax.Array],
        call: Call,
        step: int,
    ) -> tuple[State, jax.Array]:
        """One call of an epoch that was placed, from a step of the run. The old state is used up.

        Returns:
          the state, and `loss_sum` [rows] with the loss of every example added.
        """
        numbers = map(np.int32, (call.first, call.steps, step))
        shared = (self.buckets[call.bucket], *numbers)
        program = self._compiled["train", call.bucket, _rows(fixed)]
        return program(state, (fixed, loss_sum, indices[call.bucket]), shared)

    def predict(
        self, params: Params, members: Sequence[Members], masks: Mask = None
    ) -> dict[str, np.ndarray]:
        """Per-example outputs [rows, examples], in the order of the members.

        Args:
          masks: leaves with leading axes [rows, levels], to score every row under several: then
            outputs are [rows, levels, examples]. One call of a program does all levels of a row,
            and nothing comes back to the host in between.
        """
        axes = 1 if masks is None else 2
        started = perf_counter()
        work = self.workload
        sizes, most = work.eval_batch_sizes, work.eval_steps_per_call
        if work.are_streams:
            calls = [stream_call(members, columns=sizes[0], steps=most[0])]
        else:
            calls = evaluation_calls(members, batch_sizes=sizes, steps_per_call=most)
        results = []
        for call in calls:
            indices = self.engine.place_stacked(call.indices)
            shared = (self.buckets[call.bucket], np.int32(call.steps))
            if masks is None:
                program = self._compiled["predict", call.bucket, len(call.indices)]
                results.append(program(params, (indices,), shared))
            else:
                results.append(self._small["levels"](params, (masks, indices), shared))
        fetched = jax.device_get(results)
        arrays = {}
        for name in fetched[0]:
            parts = []
            for call, out in zip(calls, fetched, strict=True):
                real, values = call.indices >= 0, out[name]
                if work.are_streams:  # column after column, as the members lie
                    real, values = real.swapaxes(1, 2), values.swapaxes(axes, axes + 1)
                lead = values.shape[:axes]
                real = np.broadcast_to(
                    real[:, None] if axes == 2 else real, (*lead, *real.shape[1:])
                )
                parts.append(values[real].reshape(*lead, -1, *values.shape[axes + 2 :]))
            arrays[name] = np.concatenate(parts, axis=axes)
        self.clock.evaluate += perf_counter() - started
        return arrays

    def copy(self, params: Any) -> Any:
        """Buffers of its own for what training would overwrite."""
        return self._small["copy"](params, (), ())

    def choose(self, better: np.ndarray, new: Params, old: Params) -> Params:
        """Row by row, `new` where it is better; `old` is used up."""
        return self._small["choose"](old, (self.engine.place_stacked(better), new), ())

    @cached_property
    def _small(self) -> dict[str, Any]:
        return {
            "initial": self.engine.lift(partial(initial_state, self.recipe)),
            "continued": self.engine.lift(continued_state),
            "copy": self.engine.lift(partial(jax.tree_util.tree_map, jnp.copy)),
            "choose": self.engine.lift(_choose, donate=True),
            "levels": self.engine.lift(partial(predict_levels, self.recipe)),
        }

    @cached_property
    def buckets(self) -> tuple[Any, ...]:
        """The resident examples, on every device."""
        return tuple(self.engine.place_shared(dict(bucket)) for bucket in self.workload.buckets)

    def _compile_all(self, state: State, fixed: Row) -> None:
        """Compiles the training and the evaluation program of every shape, side by side."""
        work, rows = self.workload, _rows(fixed)
        if any(of == rows for *_, of in self._compiled):
            return
        started = perf_counter()
        predict = self.engine.lift(partial(predict_steps, self.recipe))

        def lowered() -> Iterable[tuple[tuple[str, int, int], Any]]:
            for bucket, examples in enumerate(self.buckets):
                if work.train_batches[bucket]:
                    program = lower_training(
                        self.engine, self.recipe, work, bucket, state, fixed, examples
                    )
                    yield ("train", bucket, rows), program
                shape = (rows, work.eval_steps_per_call[bucket], work.eval_batch_sizes[bucket])
                indices = self.engine.place_stacked(np.zeros(shape, np.int32))
                program = predict.lower(state.params, (indices,), (examples, np.int32(0)))
                yield ("predict", bucket, rows), program

        with ThreadPoolExecutor(cores_here()) as pool:
            futures = {name: pool.submit(program.compile) for name, program in lowered()}
            self._compiled |= {name: future.result() for name, future in futures.items()}
        self.clock.compile += perf_counter() - started


def lower_training(
    engine: Engine,
    recipe: Recipe,
    workload: Workload,
    bucket: int,
    state: State,
    fixed: Row,
    examples: Any,
) -> Any:
    """The program of training on one bucket, not compiled yet, from values or their shapes."""
    rows = _rows(fixed)
    shape = (rows, max(1, workload.train_batches[bucket]), workload.batch_size)
    indices = engine.place_stacked(np.zeros(shape, np.int32))
    loss_sum = engine.place_stacked(np.zeros(rows, np.float32))
    train = engine.lift(partial(train_steps, recipe), donate=True)
    step = np.int32(0)
    return train.lower(state, (fixed, loss_sum, indices), (examples, step, step, step))


def _rows(fixed: Row) -> int:
    """Of a slice."""
    return int(fixed.learning_rate.shape[0])


def _choose(old: Params, better: Any, new: Params) -> Params:
    return jax.tree_util.tree_map(lambda a, b: jnp.where(better, b, a), old, new)
