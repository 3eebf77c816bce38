"""Trains a table of replicates: epochs, evaluation, the best epoch, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lth_flax.data.batches import batch_count, training_calls, training_epoch
from lth_flax.numerics import pinned
from lth_flax.randomness import key
from lth_flax.training.checkpoints import Checkpoints, Position, flatten, unflatten
from lth_flax.training.programs import Clock, Programs, Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Row, State, Task, initial_state
from lth_flax.types import Mask, Params

MOST_STEPS = 8
"""Of one call: how often a signal or a checkpoint is looked for. No result depends on it."""


def accuracy(seed: int, outputs: Mapping[str, np.ndarray]) -> float:
    """The share of examples that are correct."""
    del seed
    return float(outputs["correct"].mean(dtype=np.float64))


SCORED = tuple((c, s) for c in ("last", "best") for s in ("validation", "test"))


@dataclass(frozen=True)
class Replicate:
    """One training run, a row of a table. Trees are of host arrays and may be shared.

    opt_state: where the optimizer goes on from, as `Outcome.kept` has it; None: a fresh one.
    """

    params: Params
    mask: Mask
    seed: int
    learning_rate: float
    opt_state: Any = None


class Span(NamedTuple):
    """The part of a training run that a table does; steps and epochs count from the run's start.

    start: steps that lie behind. The learning rate, the order of the data and
      dropout go on from there.
    epochs: the last epoch; None: the workload's.
    keep: after which step the state is kept in the outcome, if any.
    """

    start: int = 0
    epochs: int | None = None
    keep: int | None = None


class Kept(NamedTuple):
    """Where a replicate was in the middle of training (host arrays)."""

    params: Params
    opt_state: Any


class Curve(NamedTuple):
    """One epoch of one replicate. The loss of training is that under dropout.

    The validation score is the task's primary metric; a loss that the task does not tell is NaN.
    """

    epoch: int
    train_loss: float
    validation_loss: float
    validation_score: float


@dataclass(frozen=True)
class Outcome:
    """What a replicate became.

    params: at the end of training (host arrays), pruned weights zero.
    best_epoch: of the best validation score, the earliest of equals, from 1.
    outputs: (checkpoint, split) -> per-example arrays of `predict_fn`, in the
      order of the split's members; checkpoint is "last" or "best".
    diverged_epoch: the first epoch whose training loss was not finite, or None.
    kept: the state after the step that `Span.keep` names.
    """

    params: Params
    best_epoch: int
    curves: tuple[Curve, ...]
    outputs: Mapping[tuple[str, str], Mapping[str, np.ndarray]]
    diverged_epoch: int | None
    kept: Kept | None = None


class Stopped(Exception):
    """Training was asked to stop, and has saved where it was."""


def _nothing(*arguments: Any) -> None:
    del arguments


@dataclass(frozen=True)
class Hooks:
    """How a table's training is watched.

    on_steps: gets the number of row-steps done.
    on_epoch: after each epoch of a slice, gets the table's index of its first row, the epoch, and
      the other values of `Curve` [rows, 3].
    checkpoints: where progress is kept, if anywhere; `table` names this table there.
    stop: whether to save and raise `Stopped`; asked between calls.
    """

    on_steps: Callable[[int], None] = _nothing
    on_epoch: Callable[[int, int, np.ndarray], None] = _nothing
    checkpoints: Checkpoints | None = None
    table: int = 0
    stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class _Slice:
    """A slice in training.

    history: [epochs, rows, 3], the columns of `Curve`; NaN in epochs that lie behind.
    loss_sum: [rows], over the examples of this epoch so far.
    kept: the state at `Span.keep`, once it is reached; before, any of its shapes. () without.
    epoch, step: the next to train: epochs count from 1, steps from 0 in each epoch.
    validation: outputs after the last epoch that was trained; None where that was not in this
      process.
    """

    state: State
    kept: Any
    best: Params
    best_score: np.ndarray
    best_epoch: np.ndarray
    history: np.ndarray
    loss_sum: jax.Array
    epoch: int
    step: int
    validation: Mapping[str, np.ndarray] | None = None

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            **flatten(jax.device_get(self.state), "state"),
            **flatten(jax.device_get(self.kept), "kept"),
            **flatten(jax.device_get(self.best), "best"),
            "best_score": self.best_score,
            "best_epoch": self.best_epoch,
            "history": self.history,
            "loss_sum": np.asarray(self.loss_sum),
        }


@dataclass(frozen=True)
class Trainer:
    """Trains tables of one task on one workload.

    score: (seed, outputs of a row on its validation split) -> the metric that epochs are
      compared by.
    """

    engine: Engine
    task: Task
    workload: Workload
    score: Callable[[int, Mapping[str, np.ndarray]], float] = accuracy
    higher_is_better: bool = True

    @cached_property
    def programs(self) -> Programs:
        """Compiled once, for all tables."""
        return Programs(self.engine, self.task, self.workload)

    @property
    def clock(self) -> Clock:
        """Where the time went."""
        return self.programs.clock

    @pinned()
    def train(
        self,
        replicates: Sequence[Replicate],
        *,
        hooks: Hooks | None = None,
        span: Span | None = None,
    ) -> list[Outcome]:
        """Trains every row to the last epoch, then scores the last and the best epoch.

        No early stopping. What `hooks.checkpoints` has of this table is used:
        finished slices are not trained again, a started one goes on. The best
        epoch is one of those that the span trains.

        Raises:
          Stopped: as `hooks.stop` asked.
          ValueError: the span is empty, or does not reach the step to keep.
        """
        hooks, span = hooks or Hooks(), span or Span()
        if not replicates:
            return []
        end = self.steps_per_epoch(replicates[0].seed) * (span.epochs or self.workload.epochs)
        keep = end if span.keep is None else span.keep
        if not 0 <= span.start < end or not span.start <= keep <= end:
            raise ValueError(f"{span} does not lie in a run of {end} steps")
        span = span._replace(epochs=span.epochs or self.workload.epochs)
        outcomes: list[Outcome] = []
        for number, (indices, real) in enumerate(self.engine.slices(len(replicates))):
            rows = [replicates[index] for index in indices]
            outcomes += self._slice(rows, number, hooks, real, span)[:real]
        return outcomes

    def steps_per_epoch(self, seed: int) -> int:
        """Training steps of one epoch; the same for all seeds."""
        return batch_count(self.workload.members[seed]["train"], self.workload.batch_size)

    @pinned()
    def evaluate_levels(
        self, networks: Sequence[Replicate], masks: Sequence[Sequence[Mask]], split: str
    ) -> list[dict[str, np.ndarray]]:
        """Scores trained networks under several masks each, without training.

        Args:
          networks: parameters and seeds; their own masks and rates are not used.
          masks: for each network as many masks, its levels.
          split: "train", "validation" or "test", of each network's seed.

        Returns:
          for each network the arrays of `predict_fn`, [levels, examples].
        """
        found: list[dict[str, np.ndarray]] = []
        place = self.engine.place_rows
        for indices, real in self.engine.slices(len(networks)):
            stacked = [
                jax.tree_util.tree_map(lambda *leaves: np.stack(leaves), *masks[index])
                for index in indices
            ]
            arrays = self.programs.predict_levels(
                place([networks[index].params for index in indices]),
                place(stacked),
                [self.workload.members[networks[index].seed][split] for index in indices],
            )
            found += [{name: a[row] for name, a in arrays.items()} for row in range(real)]
        return found

    def _slice(
        self, rows: Sequence[Replicate], number: int, hooks: Hooks, real: int, span: Span
    ) -> list[Outcome]:
        kept = hooks.checkpoints
        arrays = kept.finished_slice(hooks.table, number) if kept else None
        if arrays is None:
            arrays = self._train_slice(rows, number, hooks, real, span)
            if kept:
                kept.finish_slice(hooks.table, number, arrays)
        else:
            end = (span.epochs or 0) * self.steps_per_epoch(rows[0].seed)
            hooks.on_steps(real * (end - span.start))
        like = self._state_like(rows[0]) if span.keep is not None else None
        first = 1 + span.start // self.steps_per_epoch(rows[0].seed)
        return _outcomes(arrays, rows, like, first)

    def _state_like(self, row: Replicate) -> State:
        """Shapes of the state of one replicate."""
        fixed = Row(key(row.seed, "dropout"), jnp.float32(row.learning_rate))
        start = partial(initial_state, self.task)
        return jax.eval_shape(start, row.params, row.mask, fixed, np.int32(0))

    # One slice: all its rows go through every call together.

    def _train_slice(
        self, rows: Sequence[Replicate], number: int, hooks: Hooks, real: int, span: Span
    ) -> dict[str, np.ndarray]:
        work, programs = self.workload, self.programs
        members = {
            split: [work.members[row.seed][split] for row in rows]
            for split in ("validation", "test")
        }
        train = {row.seed: work.members[row.seed]["train"] for row in rows}
        fixed = self._fixed(rows)
        now = self._begin(rows, fixed, span)
        if hooks.checkpoints:
            now = self._resume(now, number, hooks, real, span)
        per_epoch = self.steps_per_epoch(rows[0].seed)

        while now.epoch <= (span.epochs or 0):
            started = perf_counter()
            behind = (now.epoch - 1) * per_epoch  # steps of the run
            seeds = [row.seed for row in rows]
            epoch = training_epoch(train, seeds, now.epoch, batch_size=work.batch_size)
            indices = programs.place(epoch)
            keep = [] if span.keep is None else [span.keep - behind]
            calls = training_calls(epoch.order, start=now.step, ends=keep, most=MOST_STEPS)
            for call in calls:
                state, loss_sum = programs.train(now.state, fixed, now.loss_sum, indices, call)
                # One call in flight while the next is prepared, no more.
                now.loss_sum.block_until_ready()
                now = replace(now, state=state, loss_sum=loss_sum, step=now.step + call.steps)
                if [now.step] == keep:
                    now = replace(now, kept=programs.copy((state.params, state.opt_state)))
                hooks.on_steps(real * call.steps)
                stopping = hooks.stop()
                if stopping or (hooks.checkpoints and hooks.checkpoints.due(epoch_end=False)):
                    _save(now, number, hooks)
                if stopping:
                    raise Stopped
            # Those of this epoch that this table trained on.
            seen = epoch.examples(max(span.start - behind, 0))
            train_loss = np.asarray(now.loss_sum, np.float64) / seen
            programs.clock.train += perf_counter() - started
            validation = programs.predict(now.state.params, members["validation"])
            now = self._end_epoch(now, seeds, train_loss, validation)
            values = now.history[now.epoch - 2, :real]
            hooks.on_epoch(number * self.engine.rows, now.epoch - 1, values)
            if hooks.checkpoints and hooks.checkpoints.due(epoch_end=True):
                _save(now, number, hooks)

        return self._finish(now, members, span)

    def _fixed(self, rows: Sequence[Replicate]) -> Row:
        engine = self.engine
        rates = np.asarray([row.learning_rate for row in rows], np.float32)
        return Row(
            key=engine.place_rows([key(row.seed, "dropout") for row in rows]),
            learning_rate=engine.place_stacked(rates),
        )

    def _begin(self, rows: Sequence[Replicate], fixed: Row, span: Span) -> _Slice:
        place, programs = self.engine.place_rows, self.programs
        params = place([row.params for row in rows])
        state = programs.initial(params, place([row.mask for row in rows]), fixed, span.start)
        if rows[0].opt_state is not None:
            opt_state = place([row.opt_state for row in rows])
            state = programs.copy(programs.continued(state, opt_state))
        kept = () if span.keep is None else programs.copy((state.params, state.opt_state))
        return _Slice(
            state=state,
            kept=kept,
            best=self.programs.copy(state.params),
            best_score=np.full(len(rows), np.nan),
            best_epoch=np.ones(len(rows), np.int64),
            history=np.full((span.epochs or 0, len(rows), 3), np.nan),
            loss_sum=self._no_loss(),
            epoch=1 + span.start // self.steps_per_epoch(rows[0].seed),
            step=span.start % self.steps_per_epoch(rows[0].seed),
        )

    def _no_loss(self) -> jax.Array:
        """The sum of losses before the first step of an epoch, [rows]."""
        zeros: jax.Array = self.engine.place_stacked(np.zeros(self.engine.rows, np.float32))
        return zeros

    def _resume(self, start: _Slice, number: int, hooks: Hooks, real: int, span: Span) -> _Slice:
        assert hooks.checkpoints is not None
        found = hooks.checkpoints.restore(hooks.table, number, start.arrays())
        if found is None:
            return start
        position, arrays = found
        state = unflatten(arrays, "state", start.state)
        hooks.on_steps(real * (int(state.step[0]) - span.start))

        def place(tree: Any) -> Any:
            # On a CPU a placed array may be the host's own memory, and training overwrites
            # what it is given: with jaxlib 0.5.0 that corrupted the heap.
            return self.programs.copy(self.engine.place_stacked(tree))

        return _Slice(
            state=place(state),
            kept=place(unflatten(arrays, "kept", start.kept)) if start.kept else (),
            best=place(unflatten(arrays, "best", start.best)),
            best_score=arrays["best_score"],
            best_epoch=arrays["best_epoch"],
            history=arrays["history"],
            loss_sum=place(arrays["loss_sum"]),
            epoch=position.epoch,
            step=position.step,
        )

    def _end_epoch(
        self,
        now: _Slice,
        seeds: Sequence[int],
        train_loss: np.ndarray,
        validation: Mapping[str, np.ndarray],
    ) -> _Slice:
        scores = np.array(
            [
                self.score(seed, {name: array[row] for name, array in validation.items()})
                for row, seed in enumerate(seeds)
            ]
        )
        loss = np.full(len(seeds), np.nan)
        if "loss" in validation:
            loss = validation["loss"].mean(axis=1, dtype=np.float64)
        history = now.history.copy()
        history[now.epoch - 1] = np.stack([train_loss, loss, scores], axis=1)
        higher, best = self.higher_is_better, now.best_score
        # The first epoch is the best so far, whatever its score; one without a number never is.
        better = np.isnan(best) | (scores > best if higher else scores < best)
        return replace(
            now,
            history=history,
            best=self.programs.choose(better, now.state.params, now.best),
            best_score=np.where(better, scores, best),
            best_epoch=np.where(better, now.epoch, now.best_epoch),
            loss_sum=self._no_loss(),
            epoch=now.epoch + 1,
            step=0,
            validation=validation,
        )

    def _finish(self, now: _Slice, members: Mapping[str, Any], span: Span) -> dict[str, np.ndarray]:
        arrays = {
            **flatten(jax.device_get(now.state.params), "params"),
            **flatten(jax.device_get(now.kept), "kept"),
            "best_epoch": now.best_epoch,
            "history": now.history,
        }
        # The last epoch was scored when it ended, and is often the best one too.
        scored: dict[tuple[str, str], Mapping[str, np.ndarray]] = {}
        if now.validation is not None:
            scored["last", "validation"] = now.validation
        same = bool((now.best_epoch == span.epochs).all())
        for checkpoint, split in SCORED:
            if checkpoint == "best" and same:
                scored[checkpoint, split] = scored["last", split]
            elif (checkpoint, split) not in scored:
                params = now.state.params if checkpoint == "last" else now.best
                scored[checkpoint, split] = self.programs.predict(params, members[split])
            for name, array in scored[checkpoint, split].items():
                arrays[f"output|{checkpoint}|{split}|{name}"] = array
        return arrays


def _save(now: _Slice, number: int, hooks: Hooks) -> None:
    if hooks.checkpoints:
        position = Position(hooks.table, number, now.epoch, now.step)
        hooks.checkpoints.save(position, now.arrays())


def _outcomes(
    arrays: Mapping[str, np.ndarray], rows: Sequence[Replicate], state: State | None, first: int
) -> list[Outcome]:
    """The arrays of a finished slice, row by row.

    `state` is like the one that was kept, `first` the first epoch of the table.
    """
    outcomes = []
    for number, row in enumerate(rows):
        outputs: dict[tuple[str, str], dict[str, np.ndarray]] = {name: {} for name in SCORED}
        for name, array in arrays.items():
            if name.startswith("output|"):
                _, checkpoint, split, field = name.split("|")
                outputs[checkpoint, split][field] = array[number]
        history = arrays["history"][:, number]
        curves = tuple(
            Curve(epoch, *(float(value) for value in values))
            for epoch, values in enumerate(history, start=1)
            if epoch >= first
        )
        trees = ("params", "kept")
        mine = {name: array[number] for name, array in arrays.items() if name.startswith(trees)}
        kept = None
        if state is not None:
            kept = Kept(*unflatten(mine, "kept", (state.params, state.opt_state)))
        outcomes.append(
            Outcome(
                params=unflatten(mine, "params", row.params),
                best_epoch=int(arrays["best_epoch"][number]),
                curves=curves,
                outputs=outputs,
                diverged_epoch=next(
                    (c.epoch for c in curves if not np.isfinite(c.train_loss)), None
                ),
                kept=kept,
            )
        )
    return outcomes
