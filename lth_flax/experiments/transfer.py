"""What is a ticket worth elsewhere: on other data, with another optimizer, at another depth?

Trains all tickets of one or more runs of winning_ticket at one target, each with its own seed, and
compares them with their masks on fresh weights and with shuffled masks (Morcos et al., 1906.02773):

  python -m lth_flax.experiments.transfer --tickets=runs/tweets --tickets=runs/reviews \\
      --dataset=... --optimizer=sgd --num_layers=4 --work_dir=runs/transfer

What is not given is as it was where the tickets were found. Words match by spelling. On other data
the head starts fresh, under its mask. With another `--num_layers` the same layers are repeated or
dropped, in weights and mask (elastic tickets, Chen et al., 2103.16547): their sparsity then differs
from the level's, and is recorded; `--arms=ticket,random` compares with masks of just that size.
A rewound ticket starts from its rewind point, with a fresh optimizer.

Targets share a work directory, one command each. `transfer.csv` and the last lines printed are the
table of sources and targets; where the target's own tickets are among the sources, the others are
also compared with these ("native"). The report has every cell on one page.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from lth_flax import cli
from lth_flax.analysis.result import Options
from lth_flax.analysis.terminal import reach_sentence
from lth_flax.analysis.transfer import origin, place, write_transfer
from lth_flax.arms import MATCHED, Family
from lth_flax.config import TransferConfig
from lth_flax.data.sources import load_source
from lth_flax.data.text import Vocabulary
from lth_flax.errors import UserError
from lth_flax.records import compact_json
from lth_flax.runs.choices import Arm, chosen_arms, draws_of
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.plan import Part, tell
from lth_flax.runs.results import Entry, Method
from lth_flax.runs.run import Run
from lth_flax.runs.setup import Setup
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
from lth_flax.types import Mask

Metadata = Mapping[str, Any]


class Source(NamedTuple):
    """The tickets of one run: what each says, and the settings that they are trained with."""

    tickets: Mapping[Path, Metadata]
    config: TransferConfig

    @property
    def first(self) -> Metadata:
        return next(iter(self.tickets.values()))

    @property
    def seeds(self) -> list[int]:
        return sorted({metadata["seed"] for metadata in self.tickets.values()})

    def rows(self, arms: Sequence[Arm]) -> int:
        return len(self.seeds) + len(arms) * len(self.tickets)


def main(config: TransferConfig) -> None:
    """Trains the tickets of every source at the target."""
    if not config.tickets:
        raise UserError("--tickets is missing: give work directories of winning_ticket")
    arms = chosen_arms(config)
    if matched := MATCHED.intersection(arm.name for arm in arms):
        raise UserError(
            f"the arm {', '.join(matched)} needs dense networks that no ticket has: leave it out"
        )
    sources = [read_source(config, Path(folder)) for folder in config.tickets]
    configure_jax(sources[0].config)
    draws, fewest = draws_of(arms), min(len(source.seeds) for source in sources)
    if config.plan:
        parts = (
            Part(setup, source.rows(arms), source.rows(arms) * setup.steps_per_replicate)
            for source in sources
            for setup, _, _ in [prepare(source, arms)]
        )
        tell(parts, draws=draws, alpha=config.alpha, tests=len(sources))
    if reach := reach_sentence(draws, fewest, config.alpha, len(sources)):
        print(reach)
    for source in sources:
        run = train(source, arms)
    assert run.directory is not None
    options = Options(margin_points=config.margin, alpha=config.alpha)
    print("\n" + write_transfer(run.directory, options))


def read_source(config: TransferConfig, folder: Path) -> Source:
    """The tickets below a folder.

    Raises:
      UserError: there is none, they are of several configurations, or a flag contradicts them.
    """
    files = sorted(folder.rglob(METADATA_FILE))
    tickets = {file.parent: read_metadata(file.absolute()) for file in files}
    if not tickets:
        raise UserError(
            f"--tickets={folder}: there is no ticket below it; expected a work directory of "
            "winning_ticket"
        )
    for path, metadata in tickets.items():
        check_metadata(dataclasses.replace(config, ticket=str(path)), metadata)
    if len({compact_json([m["settings"], m["model"]]) for m in tickets.values()}) > 1:
        raise UserError(
            f"--tickets={folder} has tickets of several configurations: give the folder of one, "
            "such as its tickets/num_layers=4"
        )
    first = next(iter(tickets.values()))
    chosen = with_settings(
        dataclasses.replace(
            config, ticket=str(folder), given=config.given - {"num_layers", "seeds", "num_seeds"}
        ),
        first,
    )
    if "num_layers" in config.given:
        chosen = dataclasses.replace(chosen, num_layers=config.num_layers)
    found = Source(tickets, chosen)
    block = f"{found.seeds[0]}:{found.seeds[-1] + 1}"
    return found._replace(config=dataclasses.replace(chosen, ticket=None, seeds=block))


def prepare(source: Source, arms: Sequence[Arm]) -> tuple[Setup, Method, list[str]]:
    """What trains them, how their masks were found, and what a reader should know of the data."""
    config, first, seeds = source.config, source.first, source.seeds
    words = {m["seed"]: tuple(m["vocabulary"]) for m in source.tickets.values()}
    same = {one: Vocabulary(one) for one in words.values()}
    texts = with_classes(load_source(config), used_classes(config, first))
    dataset = prepare_data(config, texts, seeds, {seed: same[words[seed]] for seed in seeds})
    said: dict[str, None] = {}
    for path, metadata in source.tickets.items():
        seed = metadata["seed"]
        own = dataclasses.replace(dataset, members={seed: dataset.members[seed]})
        said |= dict.fromkeys(notes(metadata, texts, own))
        if config.embeddings_file:
            named = dataclasses.replace(config, ticket=str(path))
            check_vectors(named, metadata, own, load_ticket(path))
    config.one("num_layers"), config.one("epochs")
    size, rows = first["model"]["vocabulary_size"], source.rows(arms)
    (setup,) = text_setups(config, dataset, seeds, rows=rows, vocabulary_size=size)
    digests = (
        f"data {first['data_fingerprint'][:12]}, settings {digest(first['settings'])}, on data "
        f"{dataset.fingerprint[:12]}"
    )
    found_at = origin(place(first["dataset"], first["settings"]), digests)
    return setup, method_of("transfer", first, found_at), list(said)


def train(source: Source, arms: Sequence[Arm]) -> Run:
    """Trains and records the tickets of one source, and what they are compared with."""
    config, seeds = source.config, source.seeds
    setup, method, said = prepare(source, arms)
    elsewhere = setup.examples.fingerprint != source.first["data_fingerprint"]
    depth, stretch = config.one("num_layers"), setup.task.model.with_depth  # type: ignore[union-attr]
    rate = config.one("learning_rate")
    name = configuration_of(setup, method, rate)
    read = lru_cache(maxsize=setup.trainer.engine.rows)(load_ticket)

    def family(path: Path, seed: int) -> tuple[Family, Mask]:
        ticket = read(path)
        begun = ticket.initial_params if ticket.rewind_params is None else ticket.rewind_params
        trees = [begun, ticket.trained_params, ticket.mask]
        if depth != source.first["model"]["num_layers"]:
            assert stretch is not None
            trees = [stretch(tree, depth) for tree in trees]
        begun, trained, mask = trees
        if elsewhere:
            begun = {**begun, "head": setup.initialize(seed, config.reinit_draws)["head"]}
        found = setup.family(seed)._replace(initial_params=begun, trained=lambda: trained)
        return found, mask

    def start(arm: Arm, path: Path, metadata: Metadata) -> Start:
        found, mask = family(path, metadata["seed"])
        return arm.start(found, mask, metadata["level"])

    entries = [
        Entry("dense", Replicate(partial(setup.start, seed), seed, rate), name) for seed in seeds
    ]
    entries += [
        Entry(
            arm.name, Replicate(partial(start, arm, path, m), m["seed"], rate), name,
            arm.draw, m["level"], m["target_sparsity"], m["mask_steps"],
        )
        for path, m in source.tickets.items()
        for arm in arms
    ]  # fmt: skip
    run = Run.open(
        setup, method, directory=directory_of(config, method), rows=len(entries), append=True,
        source=digest([load_ticket(path).digest for path in source.tickets]),
    )  # fmt: skip
    for note in said:
        print(note)
    run.train(entries)
    run.finish()
    return run


if __name__ == "__main__":
    cli.run(main, TransferConfig, name="transfer")
