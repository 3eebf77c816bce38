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

import jax

from lth_flax import cli
from lth_flax.analysis.methods import write_methods
from lth_flax.arms import ARMS, Family
from lth_flax.config import CompareConfig
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.pruning.levels import Level
from lth_flax.runs.choices import Arm, chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.methods import WAYS
from lth_flax.runs.origin import Origin, check_origin, origin_of
from lth_flax.runs.results import Method
from lth_flax.runs.run import Again, Run
from lth_flax.runs.setup import build, chosen_optimizer
from lth_flax.runs.shapes import train_shapes
from lth_flax.runs.tables import Row, Search
from lth_flax.runs.workdir import directory_of
from lth_flax.text_tasks import prepare_data, text_setups
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
    _, epochs = config.one("num_layers"), config.one("epochs")
    source = load_source(config)
    rows = [(rate, seed) for rate in config.learning_rate for seed in seeds]
    most = len(rows) * len(levels)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    settings = {"methods": list(names), "equal_cost": config.equal_cost}
    method = Method(
        "compare_methods", "by method", config.scope, "by method", "by method", settings
    )
    controls = CONTROLS if config.equal_cost else ()
    searched = sum(1 + level.index for level in levels)
    run, summary = train_shapes(
        config,
        method,
        text_setups(config, dataset, seeds, rows=most),
        lambda run: compare(run, config, ways, levels, rows),
        rows=len(rows) * (1 + (len(names) + len(controls)) * len(levels)),
        epochs=[len(rows) * epochs * (1 + len(names) * len(levels) + len(controls) * searched)],
        tickets=most * ("ticket" in names),
        arm=names[0],
        draws=dict.fromkeys([*names[1:], *controls], 1),
    )
    directory = directory_of(config, method)
    print(write_methods(directory, summary, run.records, draw=config.report))


def compare(
    run: Run,
    config: CompareConfig,
    ways: Mapping[str, CompareConfig],
    levels: Sequence[Level],
    rows: Sequence[Row],
) -> None:
    """Trains every method's networks, on the same dense ones."""
    setup, (epochs,) = run.setup, config.epochs
    # Early-Bird looks on while the dense networks train: so they are its.
    order = sorted(ways, key=lambda name: name != "early_bird")
    dense: Mapping[Row, Again] = {}
    for name in order:
        origin = origin_of(ways[name], epochs, setup.steps_per_epoch)
        search = Search(run, ways[name], origin, levels, [TICKET], rows, name, dense)
        search.train()
        dense = search.dense
    if not config.equal_cost:
        return
    # A dense and a random network that are trained as long as a ticket's search.
    random = replace(config, given=frozenset(), **WAYS["random"])
    for level in levels:
        longer = build(
            config, setup.task, setup.examples, setup.seeds,
            epochs=epochs * (1 + level.index), rows=len(rows),
        )  # fmt: skip
        # One configuration: what they were trained longer is in the columns of steps.
        run.use(replace(longer, settings=setup.settings))
        for name, arm in zip(CONTROLS, (Arm("ticket", 0, _dense), TICKET), strict=True):
            Search(run, random, Origin(0, 0), [level], [arm], rows, name, dense).train()


def _dense(family: Family, mask: Mask, level: int, draw: int) -> tuple[Params, Mask]:
    """Under no mask at all."""
    del level, draw
    return family.initial_params, jax.tree_util.tree_map(lambda leaf: leaf | True, mask)


if __name__ == "__main__":
    cli.run(main, CompareConfig, name="compare_methods")
