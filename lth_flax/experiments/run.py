"""A run: trains tables, keeps their records on disk, answers at the end."""

import datetime
import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from lth_flax.analysis.report import page_of, write_report
from lth_flax.errors import UserError
from lth_flax.experiments import interrupt, platforms
from lth_flax.experiments.devices import machine, peak_memory_bytes
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.progress import Progress
from lth_flax.experiments.results import (
    SCORED_SPLITS,
    Entry,
    Method,
    curves_of,
    records_of,
)
from lth_flax.experiments.setup import SOURCE_FLAGS, Setup
from lth_flax.experiments.workdir import (
    lock_work_dir,
    open_work_dir,
    result_flags,
    settings_of_run,
    write_flags,
    write_json,
)
from lth_flax.files import remove_temporaries
from lth_flax.flagfile import MACHINE_FLAGS
from lth_flax.predictions import read_predictions, write_predictions
from lth_flax.records import (
    CurvePoint,
    Record,
    compact_json,
    read_curves,
    read_records,
    write_curves,
    write_records,
)
from lth_flax.tickets import Ticket, save_ticket
from lth_flax.training.checkpoints import Checkpoints
from lth_flax.training.loop import Hooks, Outcome, Span, Stopped
from lth_flax.training.programs import Clock
from lth_flax.types import Params

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy")


@dataclass
class Run:
    """Everything that a run has found so far; every table is on disk before the next starts."""

    directory: Path
    setup: Setup
    method: Method
    rows: int
    records: list[Record] = field(default_factory=list)
    curves: list[CurvePoint] = field(default_factory=list)
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    started: float = field(default_factory=perf_counter)
    # Of the code that runs; the files may change before the run ends.
    revision: str | None = field(default_factory=lambda: source_revision())
    source: str = ""

    @classmethod
    def open(
        cls,
        setup: Setup,
        method: Method,
        *,
        rows: int,
        steps: int | None = None,
        append: bool = False,
        source: str = "",
    ) -> "Run":
        """Opens the work directory.

        `setup` is the first that is used, `rows` the number of rows of all
        tables and `steps` that of their training steps, where rows differ.
        With `append`, records that are there stay, whatever flags made them;
        a row that is trained again replaces itself. `source` stands for what
        the rows are made from besides flags and data: a checkpoint of an
        interrupted run is only taken where it is the same.
        """
        default = f"runs/{method.experiment}_{FLAGS.dataset}"
        command = f"lth_flax.experiments.{method.experiment}"
        directory = open_work_dir(FLAGS.work_dir or default, command, same_flags=not append)
        run = cls(directory, setup, method, rows, source=source)
        run._lock = lock_work_dir(directory)
        remove_temporaries(directory)
        if append:
            run._load()
            write_flags(directory, command)
        elif run._was_finished():
            run.records = read_records(directory / "records.csv")
            run.finished = True
            return run
        write_json(directory / "provenance.json", run._provenance(finished=False))
        run._checkpoints = Checkpoints(
            directory / "checkpoints",
            identity=run._identity(),
            minutes=FLAGS.checkpoint_minutes,
            say=lambda line: print(line, file=sys.stderr),
        )
        steps = rows * setup.steps_per_replicate if steps is None else steps
        run._progress = Progress(rows=rows, steps=steps, bar=FLAGS.progress)
        describe_data(setup)
        print(f"Backend: {platforms.start(FLAGS.platform)}")
        run.use(setup)
        return run

    def use(self, setup: Setup) -> None:
        """What the next tables are of: another shape, the same data."""
        self.setup = setup
        self._clocks.append(setup.trainer.clock)
        describe_shape(setup, self.rows)

    finished: bool = False
    _progress: Any = None
    _checkpoints: Any = None
    _lock: Any = None
    _clocks: list[Clock] = field(default_factory=list)
    _tables: int = 0
    _seconds_saving: float = 0.0

    def _was_finished(self) -> bool:
        """Whether the directory holds the whole answer; raises for other data."""
        try:
            before = json.loads((self.directory / "provenance.json").read_text(encoding="utf-8"))
            fingerprint, finished = before["data"]["fingerprint"], before["finished"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False
        if fingerprint != self.setup.dataset.fingerprint:
            raise UserError(
                f"--work_dir={self.directory} was made with other data (fingerprint "
                f"{str(fingerprint)[:12]} there, {self.setup.dataset.fingerprint[:12]} now): "
                "give another directory"
            )
        return bool(finished)

    def _identity(self) -> str:
        """What must be equal for a checkpoint to lead to the same bits."""
        flags = {n: line for n, line in result_flags().items() if n not in MACHINE_FLAGS}
        versions = [_version(name) for name in ("jax", "jaxlib", "lth_flax")]
        engine = self.setup.trainer.engine
        shape = [engine.mode, engine.rows, len(engine.devices)]
        parts = [flags, versions, shape, self.setup.dataset.fingerprint]
        return compact_json([*parts, self.source] if self.source else parts)

    def _load(self) -> None:
        """What an earlier run left here."""
        records, curves, predictions = (
            self.directory / name for name in ("records.csv", "curves.csv", "predictions.npz")
        )
        # Killed between two files of the first table, a run leaves only some of them.
        if records.exists():
            self.records = read_records(records)
        if curves.exists():
            self.curves = read_curves(curves)
        if predictions.exists():
            self.predictions = read_predictions(predictions)

    def _replace(self, entries: Sequence[Entry]) -> None:
        """Takes out the rows that are about to be written again."""
        new = {entry.row_id for entry in entries}
        self.records = [record for record in self.records if record.row_id not in new]
        self.curves = [point for point in self.curves if point.row_id not in new]

    def train(self, entries: Sequence[Entry], span: Span | None = None) -> list[Outcome]:
        """Trains a table and records it."""
        self._progress.begin(_table_name(entries))
        hooks = Hooks(
            on_steps=self._progress.advance,
            checkpoints=self._checkpoints,
            table=self._tables,
            stop=interrupt.requested,
        )
        self._tables += 1
        try:
            with interrupt.deferred():
                outcomes = self.setup.trainer.train(
                    [entry.replicate for entry in entries], hooks=hooks, span=span
                )
        except Stopped:
            self._checkpoints.wait()
            raise interrupt.Interrupted(interrupt.received()) from None
        self._progress.end(len(entries))
        self.record(entries, outcomes)
        return outcomes

    def evaluate(self, entries: Sequence[Sequence[Entry]], trained: Sequence[Params]) -> None:
        """Scores trained networks under the masks of their entries, and records that.

        `entries` are, for each network of `trained`, as many: one per level.
        """
        networks = [
            replace(one[0].replicate, params=params)
            for one, params in zip(entries, trained, strict=True)
        ]
        masks = [[entry.replicate.mask for entry in one] for one in entries]
        trainer = self.setup.trainer
        found = {split: trainer.evaluate_levels(networks, masks, split) for split in SCORED_SPLITS}
        outcomes = [
            Outcome(
                params=trained[network],
                best_epoch=trainer.workload.epochs,
                curves=(),
                outputs={
                    ("last", split): {name: array[level] for name, array in arrays.items()}
                    for split, arrays in ((s, found[s][network]) for s in SCORED_SPLITS)
                },
                diverged_epoch=None,
            )
            for network, one in enumerate(entries)
            for level in range(len(one))
        ]
        self.record([entry for one in entries for entry in one], outcomes)

    def record(self, entries: Sequence[Entry], outcomes: Sequence[Outcome]) -> None:
        """Puts rows on disk, in place of those of the same name."""
        self._replace(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            self.records += records_of(self.setup, self.method, entry, outcome)
            self.curves += curves_of(entry, outcome)
            smallest = np.min_scalar_type(self.setup.model.num_classes - 1)
            for (checkpoint, split), output in outcome.outputs.items():
                if split == "test":
                    classes = output["predicted"].astype(smallest)
                    self.predictions[f"{entry.row_id}/{checkpoint}"] = classes
        self._write()

    def save_ticket(
        self,
        entry: Entry,
        initial_params: Params,
        outcome: Outcome,
        rewind_params: Params | None = None,
    ) -> Path:
        """Keeps a ticket with all that is needed to use it without this run."""
        setup = self.setup
        model = setup.model
        path = self.directory / "tickets" / entry.configuration
        path = path / f"seed_{entry.seed}" / f"level_{entry.target_sparsity:g}"
        unused = [f"unused_{number}" for number in range(FLAGS.unused_classes)]
        metadata = {
            "model": {
                "vocabulary_size": model.vocabulary_size,
                "embedding_size": model.embedding_size,
                "hidden_size": model.hidden_size,
                "num_layers": model.num_layers,
                "num_classes": model.num_classes,
                "dropout": model.dropout,
                "embedding_dropout": model.embedding_dropout,
                "dropout_between_layers": model.dropout_between_layers,
                "readout": model.readout,
            },
            "vocabulary": list(setup.dataset.vocabularies[entry.seed].words),
            "class_names": [*setup.dataset.class_names, *unused],
            "dataset": setup.dataset.name,
            "data_fingerprint": setup.dataset.fingerprint,
            "split_fingerprint": setup.dataset.split_fingerprint(entry.seed),
            "seed": entry.seed,
            "level": entry.level,
            "target_sparsity": entry.target_sparsity,
            "prunable": FLAGS.prunable,
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
            "source": {name: getattr(FLAGS, name) for name in SOURCE_FLAGS},
        }
        started = perf_counter()
        mask = entry.replicate.mask if entry.mask is None else entry.mask
        ticket = Ticket(initial_params, mask, outcome.params, metadata, rewind_params)
        save_ticket(path, ticket)
        self._seconds_saving += perf_counter() - started
        return path

    def finish(self) -> dict[str, Any]:
        """Statistics, figures, the report and the terminal's answer."""
        if self.finished:
            text = (self.directory / "provenance.json").read_text(encoding="utf-8")
            provenance = json.loads(text)
        else:
            self._progress.close()
            self._checkpoints.close()
            provenance = self._provenance(finished=True)
        summary, answer = write_report(
            self.directory,
            # As anyone would rebuild it: from the file, not from memory.
            read_records(self.directory / "records.csv"),
            settings=settings_of_run(),
            provenance=provenance,
            margin=FLAGS.margin,
            alpha=FLAGS.alpha,
        )
        if not self.finished:
            # Last: from now on the records are the answer, and checkpoints are not needed.
            write_json(self.directory / "provenance.json", provenance)
            shutil.rmtree(self.directory / "checkpoints", ignore_errors=True)
        print(answer)
        print(f"\nReport: {page_of(self.directory)}")
        return summary

    def _write(self) -> None:
        started = perf_counter()
        write_records(self.directory / "records.csv", self.records)
        write_curves(self.directory / "curves.csv", self.curves)
        write_predictions(self.directory / "predictions.npz", self.predictions)
        self._seconds_saving += perf_counter() - started

    def _provenance(self, *, finished: bool) -> dict[str, Any]:
        clocks, dataset = self._clocks, self.setup.dataset
        saving = self._seconds_saving
        if self._checkpoints:
            saving += self._checkpoints.seconds_saving
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return {
            "versions": {name: _version(name) for name in (*_PACKAGES, "lth_flax")},
            "source_revision": self.revision,
            "machine": machine(),
            "mode": self.setup.trainer.engine.mode,
            "rows_per_program": self.setup.trainer.engine.rows,
            "data": {
                "name": dataset.name,
                "fingerprint": dataset.fingerprint,
                "classes": list(dataset.class_names),
                "empty_texts": dataset.num_empty,
                "bucket_edges": list(dataset.edges),
                "padding_share": dataset.padding,
                "sizes": {
                    split: dataset.size(self.setup.seeds[0], split)
                    for split in ("train", *SCORED_SPLITS)
                },
            },
            "written": now,
            "finished": finished,
            "peak_memory_bytes": peak_memory_bytes(),
            "seconds": {
                "total": round(perf_counter() - self.started, 1),
                "compile": round(sum(clock.compile for clock in clocks), 1),
                "train": round(sum(clock.train for clock in clocks), 1),
                "evaluate": round(sum(clock.evaluate for clock in clocks), 1),
                "save": round(saving, 1),
            },
        }


def describe_data(setup: Setup) -> None:
    """Says which texts there are."""
    dataset = setup.dataset
    seed = setup.seeds[0]
    sizes = " + ".join(f"{dataset.size(seed, s):,} {s}" for s in ("train", *SCORED_SPLITS))
    print(
        f"{dataset.name}: {sizes} texts, {len(dataset.class_names)} classes, "
        f"{len(dataset.vocabularies[seed]):,} words, {len(dataset.edges)} length buckets up to "
        f"{dataset.edges[-1]} tokens ({dataset.padding:.0%} padding)"
    )
    if dataset.num_empty:
        print(f"{dataset.num_empty} texts are empty after cleaning: kept, read as zero length")


def describe_shape(setup: Setup, rows: int) -> None:
    """Says what is about to be trained."""
    engine, model = setup.trainer.engine, setup.model
    devices = f"{engine.devices[0].platform} device{'s' * (len(engine.devices) > 1)}"
    print(
        f"{model.num_layers}-layer bidirectional LSTM, {model.hidden_size} units per direction; "
        f"{rows} replicates of {setup.steps_per_replicate:,} steps "
        f"on {len(engine.devices)} {devices} ({engine.mode})"
    )


def source_revision() -> str | None:
    """The git revision of this code, with "+" where files differ from it, or None."""
    here = str(Path(__file__).resolve().parent)

    def git(*arguments: str) -> str:
        found = subprocess.run(
            ["git", "-C", here, *arguments], capture_output=True, text=True, check=True
        )
        return found.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", here)
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _table_name(entries: Sequence[Entry]) -> str:
    levels = sorted({entry.target_sparsity for entry in entries})
    if levels == [0.0]:
        return entries[0].arm
    return f"{levels[0]:.1%}" if len(levels) == 1 else f"{len(levels)} levels"
