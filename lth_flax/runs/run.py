"""A run: trains tables, keeps on disk what each slice of them gave, answers at the end."""

import contextlib
import datetime
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from lth_flax import interrupt
from lth_flax.analysis import report
from lth_flax.analysis.blocks import Block, read_block
from lth_flax.analysis.report import page_of, summary_of, write_report
from lth_flax.analysis.result import Options
from lth_flax.errors import UserError
from lth_flax.flagfile import MACHINE_FLAGS
from lth_flax.identity import PACKAGES, PARTS, Identity, digest, package_version
from lth_flax.parts import read_rows, remove_parts, write_part, write_rows
from lth_flax.records import CurvePoint, Record, compact_json, sort_records
from lth_flax.runs import platforms
from lth_flax.runs.devices import machine, peak_memory_bytes
from lth_flax.runs.log import NO_LOG, EpochLog, check_installed
from lth_flax.runs.progress import Progress
from lth_flax.runs.provenance import identity_now, source_revision
from lth_flax.runs.results import SCORED_SPLITS, Entry, Method, rows_of
from lth_flax.runs.setup import Setup
from lth_flax.runs.workdir import enter_work_dir, write_flags, write_json
from lth_flax.tickets import Ticket, save_ticket
from lth_flax.training.checkpoints import Checkpoints
from lth_flax.training.loop import Hooks, Stopped, Trainer
from lth_flax.training.programs import Clock
from lth_flax.training.table import Outcome, Span
from lth_flax.types import Params

Again = Callable[[], Outcome]
"""What a row became, read when it is needed: from the disk where slices are kept there."""

_PACKAGES = (*PACKAGES, "orbax-checkpoint", "lth_flax")
_OF_ALL_ROWS = ("versions", "numerics", "code")
"""Parts of an identity that rows of other tickets and data, in one directory, share."""


@dataclass
class Run:
    """What trains the tables of an experiment, and keeps what was found.

    A slice is on disk before the next starts, and nothing of it stays in memory. Without a
    directory nothing is written, and everything stays in memory: `records` and `tickets`.
    """

    directory: Path | None
    setup: Setup
    method: Method
    rows: int
    source: str = ""
    identity: Identity = field(default_factory=dict)
    say: Callable[[str], None] = print
    records: list[Record] = field(default_factory=list)
    curves: list[CurvePoint] = field(default_factory=list)
    predictions: dict[str, Any] = field(default_factory=dict)
    tickets: dict[tuple[int, float], Ticket] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    finished: bool = False
    # Of the code that runs; the files may change before the run ends.
    revision: str | None = field(default_factory=source_revision)
    started: float = field(default_factory=perf_counter)
    _progress: Progress = field(init=False)
    _log: EpochLog = field(init=False)
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _checkpoints: Checkpoints | None = None
    _clocks: list[Clock] = field(default_factory=list)
    _tables: int = 0
    _seconds_saving: float = 0.0

    @classmethod
    def open(
        cls,
        setup: Setup,
        method: Method,
        *,
        directory: Path | None,
        rows: int,
        steps: int | None = None,
        append: bool = False,
        source: str = "",
        say: Callable[[str], None] = print,
    ) -> "Run":
        """Opens the work directory, if there is one.

        `setup` is the first that is used, `rows` the number of rows of all
        tables and `steps` that of their training steps, where rows differ.
        With `append`, records that are there stay, whatever flags made them;
        a row that is trained again replaces itself. `source` stands for what
        the rows are made from besides flags and data: a checkpoint of an
        interrupted run is only taken where it is the same. `say` gets what a terminal shows.
        """
        config = setup.config
        check_installed(config.log)
        task = setup.task
        # Nothing answers for what stays in memory: there any function will do.
        known = "in memory" if directory is None else task.version and f"{task.name} {task.version}"
        found = identity_now(
            config,
            method.experiment,
            data=setup.examples.fingerprint,
            files=task.files,
            functions=task.functions,
            task=known or "",
        )
        # Records alone tell what was made by other code; their data and files they name already.
        mark = {"identity": digest(found, _OF_ALL_ROWS)}
        method = method._replace(settings={**method.settings, **mark})
        run = cls(directory, setup, method, rows, source, found, say)
        try:
            if directory is not None:
                run._open(directory, append)
        except BaseException:
            run.close()
            raise
        if run.finished:
            return run
        steps = rows * setup.steps_per_replicate if steps is None else steps
        run._log = EpochLog(config.log, directory)
        run._progress = Progress(rows=rows, steps=steps, bar=config.progress, say=say)
        run._held.callback(run._progress.close)
        run._held.callback(run._log.close)
        for line in (*setup.examples.sentences, *task.sentences):
            say(line)
        for line in setup.examples.warnings:
            print(f"warning: {line}", file=sys.stderr)
        say(f"Backend: {platforms.start(config.platform)}")
        run.use(setup)
        return run

    def _open(self, directory: Path, append: bool) -> None:
        """Takes the directory for itself; it may hold the whole answer already."""
        config = self.setup.config
        command = f"lth_flax.experiments.{self.method.experiment}"
        before = enter_work_dir(
            self._held, directory, command, config, self.identity,
            parts=_OF_ALL_ROWS if append else PARTS, same_flags=not append,
        )  # fmt: skip
        if append:
            if (directory / "records.csv").exists():
                read_rows(directory)  # damage is told before anything is trained or written
            write_flags(directory, command, config)
        elif before and before.get("finished"):
            self.finished, self.provenance = True, before
            return
        remove_parts(directory)
        write_json(directory / "provenance.json", self._provenance(finished=False))
        self._checkpoints = Checkpoints(
            directory / "checkpoints",
            identity=self._checkpoint_identity(),
            minutes=config.checkpoint_minutes,
            say=lambda line: print(line, file=sys.stderr),
        )
        self._held.enter_context(contextlib.suppress(UserError))  # why we close matters more
        self._held.callback(self._checkpoints.close)

    def close(self) -> None:
        """Lets go of the directory; what is saved counts."""
        self._held.close()

    def use(self, setup: Setup) -> None:
        """What the next tables are of: another shape, the same data."""
        self.setup = setup
        engine, model = setup.trainer.engine, setup.task.model
        devices = f"{engine.devices[0].platform} device{'s' * (len(engine.devices) > 1)}"
        self.say(
            f"{model.words if model else 'a network'}; "
            f"{self.rows} replicates of {setup.steps_per_replicate:,} steps "
            f"on {len(engine.devices)} {devices} ({engine.mode})"
        )

    def _checkpoint_identity(self) -> str:
        """What must be equal for a checkpoint to lead to the same bits."""
        flags = {n: line for n, line in self.setup.config.lines().items() if n not in MACHINE_FLAGS}
        engine = self.setup.trainer.engine
        shape = [engine.mode, engine.rows, len(engine.devices), engine.devices[0].platform]
        return compact_json([flags, digest(self.identity), shape, self.source])

    def train(
        self,
        entries: Sequence[Entry],
        span: Span | None = None,
        each: Callable[[Entry, Outcome], None] | None = None,
        trainer: Trainer | None = None,
        recorded: bool = True,
    ) -> list[Again]:
        """Trains a table and records it, slice by slice.

        Args:
          each: called for every row when its slice has ended.
          trainer: of these rows, where it is not that of the setup.
          recorded: off for networks that others are made from, and that are no answer.

        Returns:
          for each entry a function that has its outcome, from the disk where there is one.
        """
        self._progress.begin(_table_name(entries))
        hooks = Hooks(
            on_steps=self._progress.advance,
            on_epoch=(self._log if recorded else NO_LOG).table(self.setup, entries, span),
            checkpoints=self._checkpoints,
            table=self._tables,
            stop=interrupt.requested,
        )
        trainer, span = trainer or self.setup.trainer, span or Span()
        if all(clock is not trainer.clock for clock in self._clocks):
            self._clocks.append(trainer.clock)
        end = self.setup.steps_per_epoch * (span.epochs or trainer.workload.epochs)
        entries = [entry._replace(train_steps=end - span.start) for entry in entries]
        found: list[Again] = []
        try:
            with interrupt.deferred():
                replicates = [entry.replicate for entry in entries]
                slices = trainer.train(replicates, hooks=hooks, span=span)
                for number, finished in enumerate(slices):
                    outcomes = finished.outcomes()
                    some = entries[len(found) : len(found) + finished.rows]
                    if recorded:
                        self._record(number, some, outcomes)
                    if each is not None:
                        for entry, outcome in zip(some, outcomes, strict=True):
                            each(entry, outcome)
                    found += [partial(finished.outcome, row) for row in range(finished.rows)]
                    self._progress.finished(finished.rows)
        except Stopped:
            if self._checkpoints:
                self._checkpoints.wait()
            raise interrupt.Interrupted(interrupt.received()) from None
        self._tables += 1
        self._progress.end()
        return found

    def evaluate(self, entries: Sequence[Sequence[Entry]]) -> None:
        """Scores networks as they start, without training, and records that.

        `entries` are, for each network, as many: one per mask.
        """
        trainer = self.setup.trainer
        size = trainer.engine.rows
        for number, first in enumerate(range(0, len(entries), size)):
            some = entries[first : first + size]
            starts = [[entry.replicate.start() for entry in one] for one in some]
            networks = [(one[0].seed, of[0].params) for one, of in zip(some, starts, strict=True)]
            masks = [[start.mask for start in of] for of in starts]
            scored = {s: trainer.evaluate_levels(networks, masks, s) for s in SCORED_SPLITS}
            outcomes = [
                Outcome(
                    params=start.params,
                    mask=start.mask,
                    best_epoch=trainer.workload.epochs,
                    curves=(),
                    outputs={
                        ("last", split): {name: a[level] for name, a in of_split[network].items()}
                        for split, of_split in scored.items()
                    },
                    diverged_epoch=None,
                )
                for network, of in enumerate(starts)
                for level, start in enumerate(of)
            ]
            self._record(number, [entry for one in some for entry in one], outcomes)
        self._tables += 1

    def _record(self, number: int, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        """Puts the rows of a slice of this table where they belong."""
        rows = rows_of(self.setup, self.method, entries, outcomes)
        started = perf_counter()
        if self.directory is not None:
            write_part(self.directory, self._tables, number, rows)
        else:
            self.records += rows.records
            self.curves += rows.curves or ()
            self.predictions.update(rows.predictions or {})
        self._seconds_saving += perf_counter() - started

    def save_ticket(
        self,
        entry: Entry,
        initial_params: Params,
        outcome: Outcome,
        rewind_params: Params | None = None,
    ) -> None:
        """Keeps a ticket with all that is needed to use it without this run."""
        setup = self.setup
        task, examples = setup.task, setup.examples
        metadata = {
            "task": task.name or "task",
            "model": dict(task.model.settings) if task.model else {},
            "dataset": examples.name,
            "data_fingerprint": examples.fingerprint,
            **(examples.of_ticket(entry.seed) if examples.of_ticket else {}),
            "seed": entry.seed,
            "level": entry.level,
            "target_sparsity": entry.target_sparsity,
            "prunable": setup.config.text("prunable"),
            "experiment": self.method.experiment,
            "schedule": self.method.schedule,
            "scope": self.method.scope,
            "criterion": self.method.criterion,
            "mask_steps": entry.mask_steps,
            "settings": {
                **setup.settings,
                **self.method.settings,
                "learning_rate": entry.replicate.learning_rate,
            },
            "identity": self.identity,
        }
        started = perf_counter()
        ticket = Ticket(initial_params, outcome.mask, outcome.params, metadata, rewind_params)
        if self.directory is None:
            self.tickets[entry.seed, entry.target_sparsity] = ticket
            return
        path = self.directory / "tickets" / entry.configuration
        save_ticket(path / f"seed_{entry.seed}" / f"level_{entry.target_sparsity:g}", ticket)
        self._seconds_saving += perf_counter() - started

    def finish(self) -> dict[str, Any]:
        """Statistics, and with a directory figures, the page and the terminal's answer."""
        config, directory = self.setup.config, self.directory
        options = Options(margin_points=config.margin, alpha=config.alpha)
        if not self.finished:
            self._progress.close()
            if self._checkpoints:
                self._checkpoints.close()
            if directory is not None:
                write_rows(directory, read_rows(directory))
                remove_parts(directory)
            self.provenance = self._provenance(finished=True)
        if directory is None:
            self.records = sort_records(self.records)  # as a file has them
            block = Block("run", self.records, self.curves, self.predictions)
            return summary_of(block, options)
        block = read_block(directory)  # as anyone would rebuild it: from the files
        self.records = list(block.records)
        summary, answer = write_report(
            directory,
            block,
            options,
            settings=config.shown(),
            provenance=self.provenance,
            draw=config.report,
        )
        if not self.finished:
            # Last: from now on the records are the answer, and checkpoints are not needed.
            write_json(directory / "provenance.json", self.provenance)
            shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        self.close()
        self.say(answer)
        drawn = page_of(directory) if config.report else f"python -m {report.__name__} {directory}"
        self.say(f"\nReport: {drawn}")
        return summary

    def _provenance(self, *, finished: bool) -> dict[str, Any]:
        examples = self.setup.examples
        saving = self._checkpoints.seconds_saving if self._checkpoints else 0.0
        seconds = {
            "total": perf_counter() - self.started,
            **{part: sum(getattr(clock, part) for clock in self._clocks)
               for part in ("compile", "train", "evaluate")},
            "save": self._seconds_saving + saving,
        }  # fmt: skip
        return {
            "versions": {name: package_version(name) for name in _PACKAGES},
            "identity": self.identity,
            "source_revision": self.revision,
            "machine": machine(self.setup.config),
            "mode": self.setup.trainer.engine.mode,
            "rows_per_program": self.setup.trainer.engine.rows,
            "data": {
                "name": examples.name,
                "fingerprint": examples.fingerprint,
                **examples.about,
                **self.setup.task.about,
            },
            "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "finished": finished,
            "peak_memory_bytes": peak_memory_bytes(),
            "seconds": {part: round(number, 1) for part, number in seconds.items()},
        }


def _table_name(entries: Sequence[Entry]) -> str:
    """Of a table in progress: dense, 50.0% or 7 levels, and whose if not the tickets'."""
    levels = sorted({entry.target_sparsity for entry in entries})
    arm, *others = {entry.arm for entry in entries}
    if levels == [0.0]:
        return entries[0].arm
    name = f"{levels[0]:.1%}" if len(levels) == 1 else f"{len(levels)} levels"
    return name if others or arm == "ticket" else f"{arm}, {name}"
