"""Trains a table of replicates: epochs, evaluation, the best epoch, checkpoints."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from time import perf_counter
from typing import Any, NamedTuple

import jax
import numpy as np

from lth_flax.data.batches import batch_count, training_calls, training_epoch
from lth_flax.data.stretches import stream_epoch
from lth_flax.numerics import pinned
from lth_flax.randomness import key
from lth_flax.training.checkpoints import Checkpoints, Position, named, unflatten
from lth_flax.training.mask_state import current_mask
from lth_flax.training.programs import Clock, Programs, Workload
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Recipe, Row, State, initial_state
from lth_flax.training.table import (
    SCORED,
    Finished,
    Kept,
    Replicate,
    Shapes,
    Span,
    Start,
    finished_arrays,
)
from lth_flax.types import Mask, Params

MOST_STEPS = 8
"""Of one call: how often a signal or a checkpoint is looked for. No result depends on it."""


def accuracy(seed: int, outputs: Mapping[str, np.ndarray]) -> float:
    """The share of examples that are correct."""
    del seed
    return float(outputs["correct"].mean(dtype=np.float64))


class Stopped(Exception):
    """Training was asked to stop, and has saved where it was."""


@dataclass(frozen=True)
class Hooks:
    """How a table's training is watched.

    on_steps: gets the number of row-steps done.
    on_epoch: after each epoch of a slice, gets the table's index of its first row, the epoch, and
      the other values of `Curve` [rows, 3].
    checkpoints: where progress is kept, if anywhere; `table` names this table there.
    stop: whether to save and raise `Stopped`; asked between calls.
    """

    on_steps: Callable[[int], None] = lambda steps: None
    on_epoch: Callable[[int, int, np.ndarray], None] = lambda first, epoch, curves: None
    checkpoints: Checkpoints | None = None
    table: int = 0
    stop: Callable[[], bool] = lambda: False


class _Slice(NamedTuple):
    """A slice in training.

    kept: the state at `Span.keep`, once it is reached; before, any of its shapes. () without.
    history: [epochs, rows, 3], the columns of `Curve`; NaN in epochs that lie behind.
    loss_sum: [rows], over the examples of this epoch so far.
    epoch, step: the next to train: epochs count from 1, steps from 0 in each epoch.
    last, best_outputs: on validation, after the last epoch that was trained, and after the best so
      far; None where that was not in this process.
    """

    state: State
    kept: Any
    best: tuple[Params, Mask]
    best_score: np.ndarray
    best_epoch: np.ndarray
    history: np.ndarray
    loss_sum: jax.Array
    epoch: int
    step: int
    last: Mapping[str, np.ndarray] | None = None
    best_outputs: Mapping[str, np.ndarray] | None = None

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What a checkpoint has of it: on the devices, for the most part."""
        return self[:7]


@dataclass(frozen=True)
class Trainer:
    """Trains tables of one task on one workload.

    score: (seed, outputs of a row on its validation split) -> the metric that epochs are
      compared by.
    """

    engine: Engine
    recipe: Recipe
    workload: Workload
    score: Callable[[int, Mapping[str, np.ndarray]], float] = accuracy
    higher_is_better: bool = True

    @cached_property
    def programs(self) -> Programs:
        """Compiled once, for all tables."""
        return Programs(self.engine, self.recipe, self.workload)

    @property
    def clock(self) -> Clock:
        """Where the time went."""
        return self.programs.clock

    def train(
        self,
        replicates: Sequence[Replicate],
        *,
        hooks: Hooks | None = None,
        span: Span | None = None,
    ) -> Iterator[Finished]:
        """Trains every row to the last epoch, then scores the last and the best epoch.

        Slice by slice, each when it is asked for. No early stopping. What
        `hooks.checkpoints` has of this table is used: finished slices are not
        trained again, a started one goes on. The best epoch is one of those that
        the span trains.

        Raises:
          Stopped: as `hooks.stop` asked.
          ValueError: the span is empty, or does not reach the step to keep.
        """
        if not replicates:
            return
        hooks, span = hooks or Hooks(), span or Span()
        span = span._replace(epochs=span.epochs or self.workload.epochs)
        end = self.steps_per_epoch(replicates[0].seed) * span.epochs
        keep = end if span.keep is None else span.keep
        if not 0 <= span.start < end or not span.start <= keep <= end:
            raise ValueError(f"{span} does not lie in a run of {end} steps")
        shapes = self._shapes(replicates[0], span)
        for number, (indices, real) in enumerate(self.engine.slices(len(replicates))):
            rows = [replicates[index] for index in indices]
            yield self._slice(rows, number, hooks, real, span, shapes)

    def steps_per_epoch(self, seed: int) -> int:
        """Training steps of one epoch; the same for all seeds."""
        return batch_count(self.workload.members[seed]["train"], self.workload.batch_size)

    @pinned()
    def evaluate_levels(
        self, networks: Sequence[tuple[int, Params]], masks: Sequence[Sequence[Mask]], split: str
    ) -> list[dict[str, np.ndarray]]:
        """Scores trained networks under several masks each, without training.

        Args:
          networks: seeds and parameters.
          masks: for each network as many masks, its levels.
          split: "train", "validation" or "test", of each network's seed.

        Returns:
          for each network the arrays of `predict_fn`, [levels, examples].
        """
        found: list[dict[str, np.ndarray]] = []
        place = self.engine.place_rows
        for indices, real in self.engine.slices(len(networks)):
            arrays = self.programs.predict(
                place([networks[index][1] for index in indices]),
                [self.workload.members[networks[index][0]][split] for index in indices],
                place([_stacked(masks[index]) for index in indices]),
            )
            found += [{name: a[row] for name, a in arrays.items()} for row in range(real)]
        return found

    @pinned()
    def _slice(
        self,
        rows: Sequence[Replicate],
        number: int,
        hooks: Hooks,
        real: int,
        span: Span,
        shapes: Shapes,
    ) -> Finished:
        checkpoints, table = hooks.checkpoints, hooks.table
        per_epoch = self.steps_per_epoch(rows[0].seed)
        first_epoch = 1 + span.start // per_epoch
        if checkpoints is None:
            arrays = self._train_slice(rows, number, hooks, real, span)
            return Finished(lambda: arrays, real, shapes, first_epoch)
        if checkpoints.finished_slice(table, number) is None:
            arrays = self._train_slice(rows, number, hooks, real, span)
            checkpoints.finish_slice(table, number, arrays)
        else:
            hooks.on_steps(real * (span.epochs * per_epoch - span.start))
        load = partial(checkpoints.read_finished, table, number)
        return Finished(load, real, shapes, first_epoch)

    @pinned()
    def _shapes(self, row: Replicate, span: Span) -> Shapes:
        """Of the trees of a row: those of all rows of its table."""
        start = row.start()
        params, mask = jax.eval_shape(lambda *trees: trees, start.params, start.mask)
        if span.keep is None:
            return Shapes(params, mask, None)
        state = jax.eval_shape(
            partial(initial_state, self.recipe), params, start.mask, _fixed(row, start), np.int32(0)
        )
        return Shapes(params, mask, _kept(state))

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
        per_epoch = self.steps_per_epoch(rows[0].seed)
        starts = [row.start() for row in rows[:real]]
        starts += starts[-1:] * (len(rows) - real)
        fixed = self.engine.place_rows(list(map(_fixed, rows, starts)))
        now = self._begin(starts, fixed, span, per_epoch)
        # What a recipe that does not keep masks forgets.
        masks = None if self.recipe.keep_mask else _stacked([start.mask for start in starts])
        del starts
        if hooks.checkpoints:
            now = self._resume(now, number, hooks, real, span)

        while now.epoch <= span.epochs:
            started = perf_counter()
            behind = (now.epoch - 1) * per_epoch  # steps of the run
            seeds = [row.seed for row in rows]
            if work.are_streams:
                epoch = stream_epoch(train, seeds, batch_size=work.batch_size)
            else:
                epoch = training_epoch(train, seeds, now.epoch, batch_size=work.batch_size)
            indices = programs.place(epoch)
            keep = [] if span.keep is None else [span.keep - behind]
            calls = training_calls(epoch.order, start=now.step, ends=keep, most=MOST_STEPS)
            for call in calls:
                state, loss_sum = programs.train(
                    now.state, fixed, now.loss_sum, indices, call, behind + now.step
                )
                # One call in flight while the next is prepared, no more.
                now.loss_sum.block_until_ready()
                now = now._replace(state=state, loss_sum=loss_sum, step=now.step + call.steps)
                if [now.step] == keep:
                    now = now._replace(kept=programs.copy(_kept(state)))
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

        return self._finish(now, masks, members, span)

    def _begin(self, starts: Sequence[Start], fixed: Row, span: Span, per_epoch: int) -> _Slice:
        place, programs = self.engine.place_rows, self.programs
        params, masks = place([(start.params, start.mask) for start in starts])
        state = programs.initial(params, masks, fixed, span.start)
        if starts[0].opt_state is not None:
            before = place([(start.opt_state, start.carry) for start in starts])
            state = programs.copy(programs.continued(state, *before))
        kept = () if span.keep is None else programs.copy(_kept(state))
        return _Slice(
            state=state,
            kept=kept,
            best=self.programs.copy(self._scored(state)),
            best_score=np.full(len(starts), np.nan),
            best_epoch=np.ones(len(starts), np.int64),
            history=np.full((span.epochs, len(starts), 3), np.nan),
            loss_sum=self._no_loss(len(starts)),
            epoch=1 + span.start // per_epoch,
            step=span.start % per_epoch,
        )

    def _scored(self, state: State) -> tuple[Params, Mask]:
        """What is kept of the best epoch: the parameters, and the mask where it changes."""
        changes = self.recipe.wrap is not None
        return state.params, current_mask(state.opt_state) if changes else ()

    def _no_loss(self, rows: int) -> jax.Array:
        """The sum of losses before the first step of an epoch, [rows]."""
        zeros: jax.Array = self.engine.place_stacked(np.zeros(rows, np.float32))
        return zeros

    def _resume(self, start: _Slice, number: int, hooks: Hooks, real: int, span: Span) -> _Slice:
        assert hooks.checkpoints is not None
        found = hooks.checkpoints.restore(hooks.table, number, named(start.arrays, "slice"))
        if found is None:
            return start
        position, arrays = found
        state, kept, best, best_score, best_epoch, history, loss_sum = unflatten(
            arrays, "slice", start.arrays
        )
        hooks.on_steps(real * (int(state.step[0]) - span.start))

        def place(tree: Any) -> Any:
            # On a CPU a placed array may be the host's own memory, and training overwrites
            # what it is given: with jaxlib 0.5.0 that corrupted the heap.
            return self.programs.copy(self.engine.place_stacked(tree))

        return start._replace(
            state=place(state),
            kept=place(kept) if kept else (),
            best=place(best),
            best_score=best_score,
            best_epoch=best_epoch,
            history=history,
            loss_sum=place(loss_sum),
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
        # What was scored is not scored again in the end.
        before = now.best_outputs
        of_best = validation if better.all() else None
        if of_best is None and before is not None:
            of_best = {name: _chosen(better, validation[name], before[name]) for name in before}
        return now._replace(
            history=history,
            best=self.programs.choose(better, self._scored(now.state), now.best),
            best_score=np.where(better, scores, best),
            best_epoch=np.where(better, now.epoch, now.best_epoch),
            loss_sum=self._no_loss(len(seeds)),
            epoch=now.epoch + 1,
            step=0,
            last=validation,
            best_outputs=of_best,
        )

    def _finish(
        self, now: _Slice, masks: Mask | None, members: Mapping[str, Any], span: Span
    ) -> dict[str, np.ndarray]:
        # Epochs were scored when they ended, and the last is often the best one too.
        known = {("last", "validation"): now.last, ("best", "validation"): now.best_outputs}
        scored: dict[tuple[str, str], Mapping[str, np.ndarray]] = {}
        same = bool((now.best_epoch == span.epochs).all())
        for checkpoint, split in SCORED:
            outputs = scored["last", split] if checkpoint == "best" and same else None
            outputs = outputs or known.get((checkpoint, split))
            if outputs is None:
                params = now.state.params if checkpoint == "last" else now.best[0]
                outputs = self.programs.predict(params, members[split])
            scored[checkpoint, split] = outputs
        masks = current_mask(now.state.opt_state) if masks is None else masks
        best = None if self.recipe.wrap is None else now.best[1]
        params, masks, kept, best = jax.device_get((now.state.params, masks, now.kept, best))
        return finished_arrays(params, masks, kept, now.best_epoch, now.history, scored, best)


def _chosen(better: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
    """Row by row."""
    return np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _save(now: _Slice, number: int, hooks: Hooks) -> None:
    if hooks.checkpoints:
        position = Position(hooks.table, number, now.epoch, now.step)
        hooks.checkpoints.save(position, named(now.arrays, "slice"))


def _fixed(row: Replicate, start: Start) -> Row:
    rate, frozen = np.float32(row.learning_rate), np.array(start.frozen)
    return Row(key(row.seed, "dropout"), rate, start.own, frozen)  # type: ignore[arg-type]


def _kept(state: State) -> Kept:
    return Kept(state.params, state.opt_state, state.carry)


def _stacked(trees: Sequence[Any]) -> Any:
    """One tree of host arrays with a leading axis."""
    return jax.tree_util.tree_map(lambda *leaves: np.stack(leaves), *trees)
