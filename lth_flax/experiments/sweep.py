"""An experiment over blocks of seeds and a grid of flags, on the machines of a Ray cluster.

  python -m lth_flax.experiments.sweep --flagfile=configs/quickstart.flags --grid=num_layers=2,4,6

Replicates need nothing from each other, so a task is one run of the experiment's
own command over a block of seeds (`--seeds_per_task`), in its own directory
below `--work_dir`, which all machines share. A task whose process or machine
died is run again and goes on from its checkpoint. In the end blocks are merged
into what one run gives. Cells that differ in depth, learning rate and epochs
alone are compared in one report; of another grid every cell gets its own.
"""

import dataclasses
import itertools
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from lth_flax import cli
from lth_flax.analysis.blocks import is_finished, join_blocks, read_block, read_provenance
from lth_flax.analysis.merge import FACTORS
from lth_flax.analysis.report import page_of, write_merged
from lth_flax.analysis.result import Options
from lth_flax.analysis.terminal import reach_sentence
from lth_flax.config import Config, SweepConfig, settings_of
from lth_flax.cores import cores_here
from lth_flax.data.sources import load_source
from lth_flax.errors import Planned, UserError
from lth_flax.experiments.sweep_ray import Job, Resources, connected, describe_cluster, run_jobs
from lth_flax.ignored import refuse_ignored, refuse_unused
from lth_flax.runs.choices import chosen_arms, draws_of, seed_block
from lth_flax.runs.provenance import identity_now
from lth_flax.runs.workdir import check_identity, lock_work_dir, open_work_dir
from lth_flax.text_tasks import files_that_are_read
from lth_flax.training.host import flags_with

COMMAND = "lth_flax.experiments.sweep"
PASSED_ON = (
    "PYTHONPATH", "GLIBC_TUNABLES", "JAX_", "XLA_", "FLAX_", "NNX_", "OPENBLAS_", "OMP_NUM_THREADS",
    "MKL_", "NVIDIA_TF32_OVERRIDE", "CUDNN_", "CUBLAS", "TF_CUDNN_", "LIBTPU_INIT_ARGS",
)  # fmt: skip
"""Beginnings of the names of environment variables that hold for tasks on all machines."""


def main(config: SweepConfig) -> None:
    seeds = seed_block(config)
    cells = cells_of(config.grid, _parse)
    for cell in cells:  # else every task would refuse them
        refuse_unused(cell.of(config), config.experiment)
        refuse_ignored(cell.of(config))
    blocks = seed_blocks(seeds, config.seeds_per_task)
    tasks = plan(cells, blocks)
    directory = Path(
        config.work_dir or f"runs/sweep_{config.experiment}_{config.text('dataset')}"
    ).absolute()
    todo = [task for task in tasks if not is_finished(directory / "blocks" / task.name)]
    resources = Resources(config.cpus_per_task, config.gpus_per_task)
    print(
        f"{len(tasks)} tasks of up to {len(blocks[0])} seed{'s' * (len(blocks[0]) > 1)} "
        f"({len(cells)} cell{'s' * (len(cells) > 1)} x {len(blocks)} blocks), each on {resources}; "
        f"{len(tasks) - len(todo)} done before"
    )
    # Refused, if it must be, before there is a Ray.
    if directory.is_file() or any(directory.glob("*")):
        open_work_dir(directory, COMMAND, config)
        check_done(config, directory, [task for task in tasks if task not in todo])
    compares = config.experiment == "winning_ticket" and not config.dense_only
    draws = draws_of(chosen_arms(config)) if compares else {}
    if reach := reach_sentence(draws, len(seeds), config.alpha):
        print(reach)
    if config.plan:
        print(f"Nothing was written; for hours of a task: {config.experiment} with --plan")
        raise Planned
    if todo:
        failed = _run(config, directory, todo, len(tasks) - len(todo), resources)
        if failed:
            print(
                f"error: {len(failed)} of {len(tasks)} tasks failed, the others are done; the same "
                f"command runs them again. {'; '.join(failed)}",
                file=sys.stderr,
            )
            raise SystemExit(1)
    _merge(config, directory, tasks)


# The plan: the cells of a grid times blocks of seeds.


class Cell(NamedTuple):
    """Values of flags, and their name: "num_layers=2,epochs=3", or nothing without a grid."""

    name: str
    values: tuple[tuple[str, str], ...]

    def of(self, config: SweepConfig) -> SweepConfig:
        """The settings of its runs."""
        values: dict[str, Any] = dict(self.values)
        return dataclasses.replace(config, **values, given=config.given | set(values))


class Task(NamedTuple):
    """One run of the experiment: its path below the sweep's directory, its cell and its seeds."""

    name: str
    cell: Cell
    seeds: range

    def arguments(self, given: Sequence[str]) -> list[str]:
        """The flags of its run, after those given to the sweep: the last value of a flag counts."""
        grid = [f"--{name}={value}" for name, value in self.cell.values]
        return [*given, *grid, f"--seeds={self.seeds.start}:{self.seeds.stop}"]


def cells_of(grid: Sequence[str], parse: Callable[[str, str], object]) -> list[Cell]:
    """Every combination of the values, the last flag changing fastest.

    parse: (name of a flag, text) -> its value; raises `UserError` for what it cannot be.

    Raises:
      UserError: a grid is not NAME=VALUE,...; a flag or value is there twice, or is none.
    """
    axes: dict[str, list[str]] = {}
    for text in grid:
        name, _, listed = text.partition("=")
        values = listed.split(",")
        if not (name and all(values)):
            raise UserError(
                f"--grid={text} is no grid: expected NAME=VALUE,VALUE,... such as num_layers=2,4"
            )
        if name in axes:
            raise UserError(f"--grid names {name} twice: give all of its values at once")
        parsed = [parse(name, value) for value in values]
        twice = [v for n, v in enumerate(values) if parsed[n] in parsed[:n]]
        if twice:
            raise UserError(f"--grid={text} has the value {twice[0]} twice: give each once")
        axes[name] = values
    combinations = itertools.product(*([(n, v) for v in values] for n, values in axes.items()))
    return [Cell(",".join(f"{n}={quote(v, safe='')}" for n, v in c), c) for c in combinations]


def seed_blocks(seeds: range, size: int) -> list[range]:
    """Blocks of `size` seeds in order; the last may be smaller."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


def plan(cells: Sequence[Cell], blocks: Sequence[range]) -> list[Task]:
    """All tasks, cell by cell."""
    return [
        Task("/".join(filter(None, (cell.name, f"seeds_{b.start}_{b.stop}"))), cell, b)
        for cell in cells
        for b in blocks
    ]


def _parse(name: str, text: str) -> object:
    """A value in a grid; `UserError` where there is no such flag, or it cannot be this."""
    setting = settings_of(Config).get(name)
    if setting is None:
        raise UserError(f"--grid names the unknown flag {name!r}: --help lists the flags")
    if setting.role in ("machine", "seeds") or name == "ticket":
        raise UserError(
            f"--grid cannot name {name}: expected a flag that changes what is found, such as "
            "num_layers; give seeds by --num_seeds or --seeds"
        )
    try:
        return setting.read(text)
    except ValueError as error:
        raise UserError(f"--grid={name}: {text!r} is no value of --{name} ({error})") from None


def check_done(config: SweepConfig, directory: Path, done: Sequence[Task]) -> None:
    """Raises `UserError` where a finished task is of other data, files, code or numeric settings.

    Tasks that are to do find that out themselves.
    """
    environment = {**os.environ, "XLA_FLAGS": flags_with(os.environ.get("XLA_FLAGS", ""))}
    for cell, of_cell in itertools.groupby(done, key=lambda task: task.cell):
        own = cell.of(config)
        now = identity_now(
            own,
            config.experiment,
            data=load_source(own).fingerprint,
            files=files_that_are_read(own),
            environment=environment,
        )
        for task in of_cell:
            place = directory / "blocks" / task.name
            check_identity(place, read_provenance(place), now)


# Its tasks, and what comes of them.


def _run(
    config: SweepConfig, directory: Path, todo: Sequence[Task], finished: int, resources: Resources
) -> list[str]:
    """Runs what is to do; a line for each task that failed."""
    lines, settings = config.lines(), settings_of(Config)
    names = sorted(config.given & settings.keys() & lines.keys() - {"work_dir", "report"})
    given = [lines[name] for name in names if settings[name].role != "seeds"]
    given.append("--noreport")  # pages are of all seeds together
    if not resources.gpus and config.platform == "auto":
        given.append("--platform=cpu")  # a GPU that may be there is not this task's
    environment = {n: v for n, v in os.environ.items() if n.startswith(PASSED_ON)}
    jobs = [
        Job(
            name=task.name,
            directory=str(directory / "blocks" / task.name),
            log=str(directory / "logs" / f"{task.name}.txt"),
            experiment=config.experiment,
            arguments=(*task.arguments(given), f"--work_dir={directory / 'blocks' / task.name}"),
            cwd=os.getcwd(),
            environment=environment,
        )
        for task in todo
    ]
    with connected(config.ray_address, cores_here()) as (ray, say):
        say(f"Ray: {describe_cluster(ray, resources)}")
        fresh = not directory.exists()
        open_work_dir(directory, COMMAND, config)
        with lock_work_dir(directory):
            try:
                return run_jobs(
                    ray, jobs, resources, max_retries=config.max_retries, finished=finished, say=say
                )
            except UserError:
                # No task began with these flags: other ones shall find no trace of them.
                if fresh and not (directory / "blocks").exists():
                    shutil.rmtree(directory, ignore_errors=True)
                raise


def _merge(config: SweepConfig, directory: Path, tasks: Sequence[Task]) -> None:
    """One directory of all where cells can be compared, else one of each."""
    groups: dict[str, list[Task]] = {}
    comparable = {name for task in tasks for name, _ in task.cell.values} <= set(FACTORS)
    for task in tasks:
        groups.setdefault("" if comparable else task.cell.name, []).append(task)
    reports = []
    for name, group in groups.items():
        blocks = [read_block(directory / "blocks" / task.name) for task in group]
        out = directory / "merged" / name if name else directory
        options = Options(margin_points=config.margin, alpha=config.alpha)
        # The flags of the sweep replay the sweep.
        answer = write_merged(out, join_blocks(blocks), options, flags=bool(name))
        reports.append(page_of(out))
        print(f"\n{name}\n{answer}" if name else f"\n{answer}")
    print(f"\nReport{'s' * (len(reports) > 1)}: {', '.join(map(str, reports))}")


if __name__ == "__main__":
    cli.run(main, SweepConfig)
