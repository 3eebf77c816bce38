"""Flags of `sweep` alone; those of its experiment are in `flags`."""

from absl import flags

FLAGS = flags.FLAGS

EXPERIMENTS = ("winning_ticket", "prune_after_training", "post_prune_training")


def _define() -> None:
    flags.DEFINE_enum("experiment", EXPERIMENTS[0], EXPERIMENTS, "Which command the tasks run.")
    flags.DEFINE_multi_string(
        "grid",
        [],
        "NAME=VALUE,VALUE,...: every value of a flag; of several --grid, every combination.",
    )
    flags.DEFINE_integer("seeds_per_task", 1, "Seeds of a task: a block.", lower_bound=1)
    flags.DEFINE_string(
        "ray_address",
        None,
        "HOST:PORT of a Ray cluster, or auto for the one that this machine is part of. "
        "Default: a Ray of this machine alone, for as long as the sweep runs.",
    )
    flags.DEFINE_integer("cpus_per_task", 1, "Cores that a task has to itself.", lower_bound=1)
    flags.DEFINE_float(
        "gpus_per_task", 0.0, "GPUs of a task; 0.5: two tasks share one.", lower_bound=0.0
    )
    flags.DEFINE_integer(
        "max_retries", 3, "How often a task whose process or machine died goes on.", lower_bound=0
    )


def sweep_lines() -> dict[str, str]:
    """The lines of these flags in a flagfile, by name."""
    ours = FLAGS.flags_by_module_dict()[__name__]
    return {flag.name: flag.serialize() for flag in ours if flag.value not in (None, [])}


_define()
