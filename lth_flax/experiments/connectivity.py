"""From which point on does training end in one place, whatever its noise?

From a point of training two copies go on with other orders of the data and other dropout; the
networks on the line between the two ends are scored, as they are and with the units of one
matched to those of the other (Frankle et al., arXiv 1912.05671; Ainsworth et al., 2209.04836):

  python -m lth_flax.experiments.connectivity --flagfile=configs/tweets_connectivity.flags

A barrier is the highest loss, or error, on the line, above the mean of its ends. Of dense networks
it says from where on a ticket could be rewound to; with `--mask=0,0.9` the copies are also
tickets of 90%, rewound to that point, and `gap.png` has what these are ahead of their masks on
fresh weights beside their barriers. A row of `connectivity.csv` is a network on a line; a stopped
run goes on at the next rewind point.
"""

from contextlib import ExitStack
from itertools import product
from pathlib import Path

from lth_flax import cli
from lth_flax.analysis.draw_connectivity import connectivity_figure, gap_figure
from lth_flax.analysis.figures import figure_bytes
from lth_flax.analysis.stability import read_lines, sentences, write_lines
from lth_flax.analysis.words import count, dataset_name
from lth_flax.config import StabilityConfig
from lth_flax.data.sources import load_source
from lth_flax.files import write_bytes_atomic
from lth_flax.runs import grid
from lth_flax.runs.choices import seed_block
from lth_flax.runs.connectivity import copies_of, measure, planned, with_copies
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.plan import tell
from lth_flax.runs.provenance import identity_now, source_revision
from lth_flax.runs.setup import build
from lth_flax.runs.workdir import enter_work_dir, write_json
from lth_flax.text_tasks import prepare_data, text_examples, text_tasks

NAME = "connectivity"


def main(config: StabilityConfig) -> None:
    seeds = seed_block(config)
    num_layers, epochs = config.one("num_layers"), config.one("epochs")
    # What cannot be is said before data is read.
    grid.steps_of("rewind_points", config.rewind_points, epochs, 1)
    source = load_source(config)
    copies = copies_of(seeds)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    task = text_tasks(config, dataset, seeds)(num_layers)
    examples = text_examples(config, dataset)
    every, copied = [*seeds, *copies], with_copies(examples)
    setup = build(config, task, copied, every, epochs=epochs, rows=len(copies))
    points = grid.steps_of("rewind_points", config.rewind_points, epochs, setup.steps_per_epoch)
    if config.plan:
        part = planned(
            setup, seeds, rates=len(config.learning_rate), steps=list(points.values()),
            points=config.line_points, sparsities=config.mask,
        )  # fmt: skip
        tell([part], draws={}, alpha=config.alpha)
    directory = Path(config.work_dir or f"runs/{NAME}_{config.dataset}")
    identity = identity_now(
        config, NAME, data=setup.examples.fingerprint, files=task.files,
        functions=task.functions, task=task.name or "",
    )  # fmt: skip
    with ExitStack() as held:
        enter_work_dir(held, directory, f"lth_flax.experiments.{NAME}", config, identity)
        found = {"identity": identity, "revision": source_revision()}
        write_json(directory / "provenance.json", found)
        table = directory / "connectivity.csv"
        lines = read_lines(table)
        done = {(line.learning_rate, line.rewind_point) for line in lines}
        controls: dict[tuple[float, float], list[float]] = {}
        for rate, point in product(config.learning_rate, points):
            if (rate, point) not in done:
                lines += measure(
                    setup, seeds, rate=rate, point=point, step=points[point],
                    points=config.line_points, sparsities=config.mask, controls=controls,
                )  # fmt: skip
                write_lines(table, lines)
            for sentence in sentences(lines, rate, point):
                print(sentence)
        note = f"{dataset_name(examples.name)}, {count(len(seeds), 'seed')}, two copies of each"
        figures = {NAME: connectivity_figure(lines, note)}
        if any(config.mask):
            figures["gap"] = gap_figure(lines, note)
        for (name, figure), kind in product(figures.items(), ("png", "svg")):
            write_bytes_atomic(directory / f"{name}.{kind}", figure_bytes(figure, kind))


if __name__ == "__main__":
    cli.run(main, StabilityConfig, NAME)
