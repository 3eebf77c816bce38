"""Does the original initialization matter? Figure 3 of the paper, done with care.

Train a dense network, prune its smallest weights, put the mask back on the
original initialization (the ticket) and on controls, train each again with the
mask kept, and compare them over paired seeds:

  python -m lth_flax.experiments.winning_ticket --flagfile=configs/quickstart.flags

With `--rewind_epoch` tickets start from where the dense network was by then
(late rewinding, Frankle et al., arXiv 1912.05671), as do shuffled and random
masks; `reinit` starts fresh, and all have trained as many steps in the end.
"""

from pathlib import Path

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.runs.choices import chosen_arms, chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.setup import chosen_optimizer
from lth_flax.search import search
from lth_flax.text_tasks import prepare_data, text_examples, text_tasks


def main(config: Config) -> None:
    seeds = seed_block(config)
    # What cannot be is said before data is read.
    chosen_arms(config), chosen_levels(config), chosen_optimizer(config)
    source = load_source(config)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    run = search(
        config,
        text_tasks(config, dataset, seeds),
        text_examples(config, dataset),
        directory=Path(config.work_dir or f"runs/winning_ticket_{config.text('dataset')}"),
    )
    run.finish()


if __name__ == "__main__":
    cli.run(main, name="winning_ticket")
