"""An experiment over blocks of seeds and a grid of flags, on the machines of a Ray cluster.

  python -m lth_flax.experiments.sweep --flagfile=configs/quickstart.flags --grid=num_layers=2,4,6

Replicates need nothing from each other, so a task is one run of the experiment's
own command over a block of seeds (`--seeds_per_task`), in its own directory
below `--work_dir`, which all machines share. A task whose process or machine
died is run again and goes on from its checkpoint. In the end blocks are merged
into what one run gives. Cells that differ in depth, learning rate and epochs
alone are compared in one report; of another grid every cell gets its own.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags as absl_flags

from lth_flax.analysis.blocks import is_finished, join_blocks, read_block, read_provenance
from lth_flax.analysis.configurations import FACTORS
from lth_flax.analysis.report import page_of, write_merged
from lth_flax.errors import UserError
from lth_flax.experiments import command, sweep_flags
from lth_flax.experiments import flags as project_flags
from lth_flax.experiments.choices import seed_block
from lth_flax.experiments.flags import FLAGS
from lth_flax.experiments.provenance import identity_now
from lth_flax.experiments.setup import files_that_are_read, load
from lth_flax.experiments.sweep_plan import Task, cells_of, plan, seed_blocks
from lth_flax.experiments.sweep_ray import (
    PASSED_ON,
    Job,
    Resources,
    connected,
    describe_cluster,
    run_jobs,
)
from lth_flax.experiments.workdir import check_identity, lock_work_dir, open_work_dir
from lth_flax.flagfile import MACHINE_FLAGS, SEED_FLAGS
from lth_flax.training.host import flags_with

COMMAND = "lth_flax.experiments.sweep"


def main() -> None:
    seeds = seed_block()
    cells = cells_of(FLAGS.grid, _parse)
    blocks = seed_blocks(seeds, FLAGS.seeds_per_task)
    tasks = plan(cells, blocks)
    directory = Path(FLAGS.work_dir or f"runs/sweep_{FLAGS.experiment}_{FLAGS.dataset}").absolute()
    todo = [task for task in tasks if not is_finished(directory / "blocks" / task.name)]
    resources = Resources(FLAGS.cpus_per_task, FLAGS.gpus_per_task)
    print(
        f"{len(tasks)} tasks of up to {len(blocks[0])} seed{'s' * (len(blocks[0]) > 1)} "
        f"({len(cells)} cell{'s' * (len(cells) > 1)} x {len(blocks)} blocks), each on {resources}; "
        f"{len(tasks) - len(todo)} done before"
    )
    if len(todo) < len(tasks):
        open_work_dir(directory, COMMAND, more=sweep_flags.sweep_lines())
        check_done(directory, [task for task in tasks if task not in todo])
    if todo:
        failed = _run(directory, todo, len(tasks) - len(todo), resources)
        if failed:
            print(
                f"error: {len(failed)} of {len(tasks)} tasks failed, the others are done; the same "
                f"command runs them again. {'; '.join(failed)}",
                file=sys.stderr,
            )
            raise SystemExit(1)
    _merge(directory, tasks)


def check_done(directory: Path, done: Sequence[Task]) -> None:
    """Raises `UserError` where a finished task is of other data, files, code or numeric settings.

    Tasks that are to do find that out themselves.
    """
    flags = _own_flags()
    before = {name: flag.value for name, flag in flags.items()}
    environment = {**os.environ, "XLA_FLAGS": flags_with(os.environ.get("XLA_FLAGS", ""))}
    cells = {task.cell: [other for other in done if other.cell == task.cell] for task in done}
    for cell, of_cell in cells.items():
        try:
            for name, value in cell.values:
                flags[name].value = flags[name].parser.parse(value)
            now = identity_now(
                FLAGS.experiment,
                data=load().fingerprint,
                files=files_that_are_read(),
                environment=environment,
            )
        finally:
            for name, old in before.items():
                flags[name].value = old
        for task in of_cell:
            place = directory / "blocks" / task.name
            check_identity(place, read_provenance(place), now)


def _run(directory: Path, todo: Sequence[Task], finished: int, resources: Resources) -> list[str]:
    """Runs what is to do; a line for each task that failed."""
    given = _given(resources)
    jobs = [_job(directory, task, given) for task in todo]
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        # Refused, if it must be, before there is a Ray.
        open_work_dir(directory, COMMAND, more=sweep_flags.sweep_lines())
    with connected(FLAGS.ray_address) as (ray, say):
        say(f"Ray: {describe_cluster(ray, resources)}")
        fresh = not directory.exists()
        open_work_dir(directory, COMMAND, more=sweep_flags.sweep_lines())
        with lock_work_dir(directory):
            try:
                return run_jobs(
                    ray,
                    jobs,
                    resources,
                    max_retries=FLAGS.max_retries,
                    finished=finished,
                    say=say,
                )
            except UserError:
                # No task began with these flags: other ones shall find no trace of them.
                if fresh and not (directory / "blocks").exists():
                    shutil.rmtree(directory, ignore_errors=True)
                raise


def _own_flags() -> dict[str, absl_flags.Flag]:
    """The flags of experiments."""
    return {flag.name: flag for flag in FLAGS.flags_by_module_dict()[project_flags.__name__]}


def _parse(name: str, text: str) -> object:
    """A value in a grid.

    Raises:
      UserError: there is no such flag, it is none of a grid, or cannot be this.
    """
    flag = _own_flags().get(name)
    if flag is None:
        raise UserError(f"--grid names the unknown flag {name!r}: --help lists the flags")
    if name in (*MACHINE_FLAGS, *SEED_FLAGS, "ticket"):
        raise UserError(
            f"--grid cannot name {name}: expected a flag that changes what is found, such as "
            "num_layers; give seeds by --num_seeds or --seeds"
        )
    try:
        return flag.parser.parse(text)
    except (ValueError, TypeError) as error:
        raise UserError(f"--grid={name}: {text!r} is no value of --{name} ({error})") from None


def _given(resources: Resources) -> list[str]:
    """Flags of the experiment as they were given, by command line or flagfile."""
    left_out = ("work_dir", *SEED_FLAGS)
    given = [
        flag.serialize()
        for name, flag in sorted(_own_flags().items())
        if flag.present and flag.value is not None and name not in left_out
    ]
    if not resources.gpus and FLAGS.platform == "auto":
        given.append("--platform=cpu")  # a GPU that may be there is not this task's
    return given


def _job(directory: Path, task: Task, given: Sequence[str]) -> Job:
    place = directory / "blocks" / task.name
    return Job(
        name=task.name,
        directory=str(place),
        log=str(directory / "logs" / f"{task.name}.txt"),
        experiment=FLAGS.experiment,
        arguments=(*task.arguments(given), f"--work_dir={place}"),
        cwd=os.getcwd(),
        environment={n: v for n, v in os.environ.items() if n.startswith(PASSED_ON)},
    )


def _merge(directory: Path, tasks: Sequence[Task]) -> None:
    """One directory of all where cells can be compared, else one of each."""
    groups: dict[str, list[Task]] = {}
    comparable = {name for task in tasks for name, _ in task.cell.values} <= set(FACTORS)
    for task in tasks:
        groups.setdefault("" if comparable else task.cell.name, []).append(task)
    reports = []
    for name, group in groups.items():
        blocks = [read_block(directory / "blocks" / task.name) for task in group]
        out = directory / "merged" / name if name else directory
        answer = write_merged(
            out,
            join_blocks(blocks),
            margin=FLAGS.margin,
            alpha=FLAGS.alpha,
            flags=bool(name),  # those of the sweep replay the sweep
        )
        reports.append(page_of(out))
        print(f"\n{name}\n{answer}" if name else f"\n{answer}")
    print(f"\nReport{'s' * (len(reports) > 1)}: {', '.join(map(str, reports))}")


if __name__ == "__main__":
    for module in (sweep_flags, project_flags):  # --help lists them
        absl_flags.adopt_module_key_flags(module)
    command.run(main)
