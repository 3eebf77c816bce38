"""Tickets of two tiny runs, trained with another optimizer and at another depth."""

import shutil

import jax
import numpy as np
import pytest

from lth_flax import cli
from lth_flax.config import Config, TransferConfig
from lth_flax.errors import UserError
from lth_flax.experiments import transfer, winning_ticket
from lth_flax.pruning.masks import count_kept, count_prunable, sparsity
from lth_flax.records import read_records
from lth_flax.runs.run import Run
from lth_flax.tickets import load_ticket

SETTINGS = {
    "dataset": "synthetic", "synthetic_size": 300, "embedding_size": 6, "hidden_size": 4,
    "dropout": 0.2, "epochs": 2, "batch_size": 50, "max_shapes": 1, "cache_dir": "",
    "progress": False, "report": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Runs of depth 2 and 3, of the same two seeds."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(winning_ticket, "configure_jax", lambda config: None)
        for depth in (2, 3):
            folder = tmp_path_factory.mktemp("runs") / str(depth)
            winning_ticket.main(
                Config(**SETTINGS, num_layers=depth, seeds="1:3", levels=(0.5, 0.8),
                       arms=("ticket",), learning_rate=0.01, work_dir=str(folder))
            )  # fmt: skip
            folders[depth] = folder
    return folders


def config_of(*flags):
    quiet = ["--noprogress", "--noreport", "--cache_dir="]
    return cli.parse(TransferConfig, [*quiet, *flags], "transfer")


@pytest.mark.slow
def test_tickets_of_two_depths_meet_at_one(sources, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "configure_jax", lambda config: None)
    trained = []

    def look(run, entries, train=Run.train):
        trained.extend((entry, entry.replicate.start()) for entry in entries)
        return train(run, entries)

    monkeypatch.setattr(Run, "train", look)
    work_dir = tmp_path / "work"
    folders = [f"--tickets={sources[2]}", f"--tickets={sources[3]}"]
    transfer.main(config_of(*folders, "--num_layers=3", f"--work_dir={work_dir}"))
    printed = capsys.readouterr().out
    replayed = config_of(f"--flagfile={work_dir / 'flags.txt'}")  # its seeds are the tickets'
    assert (replayed.tickets, replayed.num_layers) == (
        tuple(map(str, (sources[2], sources[3]))),
        (3,),
    )
    assert "ticket minus native, points" in printed
    assert "of synthetic, adam at 0.01, 2 layers" in printed
    # Dense, and three arms at two levels, of two seeds, from two sources.
    assert len(trained) == 2 * 2 * (1 + 3 * 2)
    mine = [(entry, start) for entry, start in trained if entry.arm == "ticket"]
    for number, (entry, start) in enumerate(mine):
        depth = 2 if number < 4 else 3
        path = sources[depth] / f"tickets/seed_{entry.seed}/level_{entry.target_sparsity:g}"
        ticket = load_ticket(path)
        for name, source in {"lstm_0": "lstm_0", "lstm_1": "lstm_1",
                             "lstm_2": "lstm_1" if depth == 2 else "lstm_2"}.items():  # fmt: skip
            for ours, theirs in ((start.params, ticket.initial_params), (start.mask, ticket.mask)):
                jax.tree.map(np.testing.assert_array_equal, ours[name], theirs[source])
        jax.tree.map(np.testing.assert_array_equal, start.params["head"],
                     ticket.initial_params["head"])  # fmt: skip
    # What a record says of size is that of the mask that was trained.
    rows = [r for r in read_records(work_dir / "records.csv")
            if (r.arm, r.split, r.checkpoint) == ("ticket", "test", "last")]  # fmt: skip
    found = sorted((r.seed, r.target_sparsity, r.achieved_sparsity) for r in rows)
    assert found == sorted((e.seed, e.target_sparsity, sparsity(s.mask)) for e, s in mine)
    # Depth 3 at depth 3 is a ticket trained again: its scores are those of its own run.
    own = {
        (r.seed, r.target_sparsity): (r.accuracy, r.loss)
        for r in read_records(sources[3] / "records.csv")
        if (r.arm, r.split, r.checkpoint) == ("ticket", "test", "last")
    }
    again = {
        (r.seed, r.target_sparsity): (r.accuracy, r.loss) for r in rows if "3 layers" in r.mask_from
    }
    assert again == own
    # Another target goes into the same directory, and the table has both.
    transfer.main(
        config_of(f"--tickets={sources[3]}", "--optimizer=sgd", "--learning_rate=0.1",
                  "--arms=ticket,random", f"--work_dir={work_dir}")
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "on synthetic, sgd at 0.1, 3 layers" in printed
    assert "ticket minus random" in printed
    assert "ticket minus reinit" in printed
    random = [start for entry, start in trained if entry.arm == "random"]
    sizes = [count_kept(start.mask) for start in random]
    total = count_prunable(random[0].mask)
    assert sizes == [total - round(level * total) for level in (0.5, 0.8) * 2]


@pytest.mark.slow
def test_on_other_texts_the_head_starts_fresh(sources, monkeypatch):
    config = config_of(f"--tickets={sources[2]}", "--synthetic_size=200")
    source = transfer.read_source(config, sources[2])
    seen = []

    class Stop(Exception):
        pass

    def look(run, entries):
        seen.extend(entry.replicate.start() for entry in entries if entry.arm == "ticket")
        raise Stop

    monkeypatch.setattr(Run, "train", look)
    monkeypatch.setattr(Run, "open", classmethod(lambda cls, *args, **kept: Run(None, *args, 0)))
    with pytest.raises(Stop):
        transfer.train(source, transfer.chosen_arms(config))
    ticket = load_ticket(sources[2] / "tickets/seed_1/level_0.5")
    begun = seen[0]
    for name in ("embedding", "lstm_0", "lstm_1"):
        jax.tree.map(np.testing.assert_array_equal, begun.params[name], ticket.initial_params[name])
    kernel = begun.params["head"]["kernel"]
    assert (kernel != ticket.initial_params["head"]["kernel"]).all()
    np.testing.assert_array_equal(begun.mask["head"]["kernel"], ticket.mask["head"]["kernel"])


@pytest.mark.slow
def test_what_cannot_be_is_one_line(sources, tmp_path):
    (tmp_path / "empty").mkdir()
    both = tmp_path / "both"
    both.mkdir()
    for depth, folder in sources.items():
        shutil.copytree(folder / "tickets", both / str(depth))
    cases = {
        "--tickets is missing": [],
        "there is no ticket below it": [f"--tickets={tmp_path / 'empty'}"],
        "tickets of several configurations": [f"--tickets={both}"],
        "--hidden_size=7 is not the ticket's 4": [f"--tickets={sources[2]}", "--hidden_size=7"],
        "the arm permuted_mask needs": [f"--tickets={sources[2]}", "--arms=ticket,permuted_mask"],
        "--num_layers=2,3 names 2 values": [f"--tickets={sources[2]}", "--num_layers=2,3"],
    }
    for message, flags in cases.items():
        with pytest.raises(UserError, match=message) as error:
            transfer.main(config_of(*flags))
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="--seeds means nothing"):
        config_of("--seeds=0:2")


def test_without_flags_it_compares_with_fresh_and_shuffled_masks():
    config = config_of("--tickets=a,b", "--tickets=c")
    assert config.arms == ("ticket", "reinit", "shuffled")
    assert config.tickets == ("a,b", "c")
