"""Does the original initialization matter? Figure 3 of the paper, done with care.

Train a dense network, prune its smallest weights, put the mask back on the
original initialization (the ticket) and on controls, train each again with the
mask kept, and compare them over paired seeds:

  python -m lth_flax.experiments.winning_ticket --flagfile=configs/quickstart.flags

With `--rewind_epoch` tickets start from where the dense network was by then
(late rewinding, Frankle et al., arXiv 1912.05671), as do shuffled and random
masks; `reinit` starts fresh, and all have trained as many steps in the end. With
`--task=language_model` the networks are language models.
"""

from collections.abc import Callable
from pathlib import Path

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.corpus import read_corpus
from lth_flax.data.sources import load_source
from lth_flax.language_tasks import language_examples, language_task
from lth_flax.runs.choices import chosen_arms, chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.setup import chosen_optimizer
from lth_flax.search import search
from lth_flax.tasks import Examples, Task
from lth_flax.text_tasks import prepare_data, text_examples, text_tasks


def main(config: Config) -> None:
    # What cannot be is said before data is read.
    chosen_arms(config), chosen_levels(config), chosen_optimizer(config)
    found = {"text_classification": _classifiers, "language_model": _language_models}
    task_of, examples, name = found[config.task](config)
    run = search(config, task_of, examples, directory=Path(config.work_dir or f"runs/{name}"))
    run.finish()


def _classifiers(config: Config) -> tuple[Callable[[int], Task], Examples, str]:
    source = load_source(config)
    configure_jax(config)
    seeds = seed_block(config)
    dataset = prepare_data(config, source, seeds)
    return (
        text_tasks(config, dataset, seeds),
        text_examples(config, dataset),
        f"winning_ticket_{config.text('dataset')}",
    )


def _language_models(config: Config) -> tuple[Callable[[int], Task], Examples, str]:
    corpus = read_corpus(config)
    configure_jax(config)
    return (
        lambda num_layers: language_task(config, corpus, num_layers=num_layers),
        language_examples(config, corpus),
        f"language_model_{corpus.name}",
    )


if __name__ == "__main__":
    cli.run(main, name="winning_ticket")
