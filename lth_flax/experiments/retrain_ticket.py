"""Trains a saved ticket again, beside its dense network and reinitialized controls.

  python -m lth_flax.experiments.retrain_ticket --ticket=runs/quickstart/tickets/seed_0/level_0.9

On the data that it was found on, with the same training flags, the ticket's row
comes out equal to the bit. With `--dataset=...` it is trained on another set of
the same task: words match by spelling, and those that the ticket does not have
are its unknown word. Records are added to those of the work directory, so
tickets of several seeds, each with its own seed, become one paired analysis.
With `--num_seeds` one ticket meets several splits and data orders: that speaks
of this ticket, not of tickets.
"""

from functools import partial
from pathlib import Path

import jax
import numpy as np

from lth_flax import cli
from lth_flax.analysis.terminal import reach_sentence
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError
from lth_flax.runs.choices import seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Entry
from lth_flax.runs.run import Run
from lth_flax.runs.workdir import directory_of
from lth_flax.text_tasks import prepare_data, text_setups
from lth_flax.text_tickets import (
    check_metadata,
    check_vectors,
    configuration_of,
    digest,
    method_of,
    notes,
    used_classes,
    with_classes,
    with_settings,
)
from lth_flax.tickets import load_ticket
from lth_flax.tickets.metadata import METADATA_FILE, read_metadata
from lth_flax.training.table import Replicate, Start


def main(config: Config) -> None:
    path = config.ticket
    if not path:
        raise UserError("--ticket is missing: give the directory of a saved ticket")
    # First what the ticket says, then JAX as that wants it, then the arrays.
    metadata = read_metadata(Path(path).absolute() / METADATA_FILE)
    check_metadata(config, metadata)
    config = with_settings(config, metadata)
    seeds = seed_block(config)
    source = with_classes(load_source(config), used_classes(config, metadata))
    configure_jax(config)
    ticket = load_ticket(path)
    if ticket.rewind_params is not None:
        raise UserError(
            f"ticket {config.ticket} starts from weights in the middle of training: retrain_ticket "
            "starts at the beginning; give a ticket without rewinding"
        )
    _, _, rate = map(config.one, ("num_layers", "epochs", "learning_rate"))
    dataset = prepare_data(config, source, seeds, Vocabulary(tuple(metadata["vocabulary"])))
    check_vectors(config, metadata, dataset, ticket)
    rows = len(seeds) * (2 + config.reinit_draws)
    size = metadata["model"]["vocabulary_size"]
    (setup,) = text_setups(config, dataset, seeds, rows=rows, vocabulary_size=size)
    origin = (
        f"ticket of {metadata['dataset']} (data {metadata['data_fingerprint'][:12]}, settings "
        f"{digest(metadata['settings'])}), on data {dataset.fingerprint[:12]}"
    )
    if list(seeds) != [metadata["seed"]]:  # else the seed of a row is that of its ticket
        origin += f", seed {metadata['seed']}"
    method = method_of("retrain_ticket", metadata, origin)
    draws = {"reinit": config.reinit_draws}
    if config.plan:
        part = Part(setup, rows, rows * setup.steps_per_replicate)
        tell([part], draws=draws, alpha=config.alpha)
    directory = directory_of(config, method)
    run = Run.open(setup, method, directory=directory, rows=rows, append=True, source=ticket.digest)
    if reach := reach_sentence(draws, len(seeds), config.alpha):
        print(reach)
    for note in notes(metadata, source, dataset):
        print(note)

    name = configuration_of(setup, method, rate)
    level, sparsity, spent = metadata["level"], metadata["target_sparsity"], metadata["mask_steps"]
    initial = ticket.initial_params
    dense = Start(initial, jax.tree_util.tree_map(np.ones_like, ticket.mask))

    def fresh(seed: int, draw: int) -> Start:
        return Start(setup.initialize(seed, draw), ticket.mask)

    entries = []
    for seed in seeds:
        entries.append(Entry("dense", Replicate(lambda: dense, seed, rate), name))
        arms = [("ticket", 0, lambda: Start(initial, ticket.mask))]
        arms += [
            ("reinit", draw, partial(fresh, seed, draw)) for draw in range(config.reinit_draws)
        ]
        entries += [
            Entry(arm, Replicate(start, seed, rate), name, draw, level, sparsity, spent)
            for arm, draw, start in arms
        ]
    run.train(entries)
    run.finish()


if __name__ == "__main__":
    cli.run(main, name="retrain_ticket")
