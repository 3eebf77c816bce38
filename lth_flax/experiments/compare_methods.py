"""Which way to a mask is best, and what does it cost?

Trains dense networks, and at every sparsity the networks of each method: tickets of iterative
magnitude pruning, masks from scores at initialization, Early-Bird, and masks that change during
training. Tests compare the first method named with each other one, over paired seeds:

  python -m lth_flax.experiments.compare_methods --flagfile=configs/compare_methods_tweets.flags

With `--equal_cost` there are `dense_equal_cost` and `random_equal_cost`: a dense network, and
one under a random mask, that are trained as many steps as a ticket's whole search, in one run
with one learning-rate schedule. Besides the report, the work directory holds `methods.csv`, with
what each method cost and tests adjusted for their number, and `report/methods.png`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import jax

from lth_flax import cli
from lth_flax.analysis.methods import write_methods
from lth_flax.arms import ARMS, Family
from lth_flax.config import CompareConfig
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.pruning.levels import Level
from lth_flax.runs import grid
from lth_flax.runs.choices import Arm, chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.methods import WAYS
from lth_flax.runs.origin import Origin, check_origin, origin_of
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Method
from lth_flax.runs.run import Again, Run
from lth_flax.runs.setup import build, chosen_optimizer
from lth_flax.runs.tables import Row, Search
from lth_flax.text_tasks import prepare_data, text_examples, text_tasks
from lth_flax.types import Mask, Params

CONTROLS = ("dense_equal_cost", "random_equal_cost")
TICKET = Arm("ticket", 0, ARMS["ticket"])


def main(config: CompareConfig) -> None:
    """Trains and compares."""
    seeds, levels, names = seed_block(config), chosen_levels(config), config.methods
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"--methods={','.join(names)}: expected two or more, each once")
    ways = {name: replace(config, given=frozenset(), **WAYS[name]) for name in names}
    for way in ways.values():
        check_origin(way)
    chosen_optimizer(config)
    shape = grid.Shape(config.one("num_layers"), config.one("epochs"))
    source = load_source(config)
    rows = [(rate, seed) for rate in config.learning_rate for seed in seeds]
    most = len(rows) * len(levels)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    task = text_tasks(config, dataset, seeds)(shape.num_layers)
    examples = text_examples(config, dataset)
    setup = build(config, task, examples, seeds, epochs=shape.epochs, rows=most)
    controls = CONTROLS if config.equal_cost else ()
    searched = sum(1 + level.index for level in levels)
    number = len(rows) * (1 + (len(names) + len(controls)) * len(levels))
    runs = 1 + len(names) * len(levels) + len(controls) * searched
    steps = len(rows) * setup.steps_per_replicate * runs
    if config.plan:
        part = Part(setup, number, steps, tickets=len(rows) * len(levels) * ("ticket" in names))
        others = [name for name in (*names, *controls) if name != names[0]]
        tell([part], draws=dict.fromkeys(others, 1), alpha=config.alpha, arm=names[0])
    run = Run.open(
        setup,
        Method(
            "compare_methods", "by method", config.scope, "by method", "by method",
            {"methods": list(names), "equal_cost": config.equal_cost},
        ),
        directory=Path(config.work_dir or f"runs/compare_methods_{config.text('dataset')}"),
        rows=number,
        steps=steps,
    )  # fmt: skip
    if not run.finished:
        try:
            with jax.default_matmul_precision(config.matmul_precision):
                compare(run, config, ways, shape, levels, rows)
        except BaseException:
            run.close()
            raise
    summary = run.finish()
    assert run.directory is not None
    run.say(write_methods(run.directory, summary, run.records, draw=config.report))


def compare(
    run: Run,
    config: CompareConfig,
    ways: Mapping[str, CompareConfig],
    shape: grid.Shape,
    levels: Sequence[Level],
    rows: Sequence[Row],
) -> None:
    """Trains every method's networks, on the same dense ones."""
    setup = run.setup
    # Early-Bird looks on while the dense networks train: so they are its.
    order = sorted(ways, key=lambda name: name != "early_bird")
    dense: Mapping[Row, Again] = {}
    for name in order:
        origin = origin_of(ways[name], shape, setup.steps_per_epoch)
        search = Search(run, ways[name], shape, origin, levels, [TICKET], rows, name, dense)
        search.train()
        dense = search.dense
    if config.equal_cost:
        train_controls(run, config, shape, levels, rows, dense)


def train_controls(
    run: Run,
    config: CompareConfig,
    shape: grid.Shape,
    levels: Sequence[Level],
    rows: Sequence[Row],
    dense: Mapping[Row, Again],
) -> None:
    """At each level, a dense and a random network that are trained as long as a ticket's search."""
    setup, random = run.setup, replace(config, given=frozenset(), **WAYS["random"])
    origin = Origin(None, 0, 0)
    for level in levels:
        epochs = shape.epochs * (1 + level.index)
        longer = build(
            config, setup.task, setup.examples, setup.seeds, epochs=epochs, rows=len(rows)
        )
        # One configuration: what they were trained longer is in the columns of steps.
        run.use(replace(longer, settings=setup.settings))
        for name, arm in zip(CONTROLS, (Arm("ticket", 0, _dense), TICKET), strict=True):
            Search(run, random, shape, origin, [level], [arm], rows, name, dense).train()


def _dense(seed: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """Under no mask at all."""
    del level, draw
    return seed.initial_params, jax.tree_util.tree_map(lambda leaf: leaf | True, mask)


if __name__ == "__main__":
    cli.run(main, CompareConfig, name="compare_methods")
