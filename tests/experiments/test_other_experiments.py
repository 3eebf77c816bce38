"""`prune_after_training`, `post_prune_training`, grids and late rewinding, end to end.

The oracle of an evaluation is the model itself, applied to a network that the
test prunes; that of a configuration in a grid is a run of this configuration alone.
"""

import csv

import commands
import numpy as np
import pytest

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.pruning.masks import PRUNABLE, apply_mask, full_mask, sparsity
from lth_flax.records import read_curves, read_records
from lth_flax.runs import grid
from lth_flax.tickets import load_ticket

TINY = [
    "--synthetic_size=300", "--hidden_size=6", "--embedding_size=6", "--batch_size=32",
    "--num_seeds=2", "--dropout=0.1", "--max_shapes=1", "--noprogress", "--noreport",
]  # fmt: skip
SPE = 7  # 210 texts in batches of 32


def command(experiment, directory, *arguments, **environment):
    done = commands.run(
        f"lth_flax.experiments.{experiment}", *TINY, *arguments, f"--work_dir={directory}",
        f"--cache_dir={directory.parent / 'cache'}", cwd=directory.parent, **environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return read_records(directory / "records.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("other_experiments")


@pytest.fixture(scope="module")
def swept(place):
    """Two depths, two rates."""
    return command(
        "prune_after_training", place / "swept", "--num_layers=1,2", "--learning_rate=0.01,0.03",
        "--epochs=2", "--levels=0,0.4,0.9",
    )  # fmt: skip


def configuration(record):
    return record.settings["num_layers"], record.settings["learning_rate"]


def content(records):
    """Everything but the name of the row, sorted."""
    return sorted(
        str([getattr(r, name) for name in r.__dataclass_fields__ if name != "row_id"])
        for r in records
    )


@pytest.mark.slow
def test_a_grid_has_every_configuration_dense_and_at_every_level(swept):
    cells = {(*configuration(r), r.arm, r.target_sparsity, r.seed) for r in swept}
    levels = [("dense", 0.0), ("pruned", 0.0), ("pruned", 0.4), ("pruned", 0.9)]
    assert cells == {
        (layers, rate, arm, level, seed)
        for layers in (1, 2)
        for rate in (0.01, 0.03)
        for arm, level in levels
        for seed in (0, 1)
    }
    # What was pruned after training has one checkpoint: the end.
    assert {r.checkpoint for r in swept if r.arm == "pruned"} == {"last"}
    assert len({r.row_id for r in swept}) == 4 * 4 * 2


@pytest.mark.slow
def test_a_configuration_of_a_grid_is_the_run_of_it_alone(swept, place):
    alone = command(
        "prune_after_training", place / "alone", "--num_layers=2", "--learning_rate=0.03",
        "--epochs=2", "--levels=0,0.4,0.9",
    )  # fmt: skip
    assert content(alone) == content(r for r in swept if configuration(r) == (2, 0.03))


@pytest.mark.slow
def test_pruned_at_level_zero_is_dense_and_a_mask_is_as_sparse_as_it_says(swept):
    dense = {
        (*configuration(r), r.seed, r.split): (r.accuracy, r.loss)
        for r in swept
        if r.arm == "dense" and r.checkpoint == "last"
    }
    for r in swept:
        if r.arm != "pruned":
            continue
        assert r.achieved_sparsity == pytest.approx(r.target_sparsity, abs=0.001)
        assert r.mask_steps == 2 * SPE
        if r.target_sparsity == 0:
            # Another program than that of training's own evaluation: the last bit may differ.
            accuracy, loss = dense[(*configuration(r), r.seed, r.split)]
            assert r.accuracy == accuracy
            assert r.loss == pytest.approx(loss, rel=1e-5)
    # Masks do something.
    losses = {r.loss for r in swept if r.arm == "pruned" and r.split == "test"}
    assert len(losses) == 4 * 3 * 2


@pytest.fixture(scope="module", params=["finetune", "rewind_lr", "rewind_weights"])
def retrained(request, place):
    directory = place / request.param
    records = command(
        "post_prune_training", directory, "--epochs=3", "--levels=0.5,0.9", "--num_layers=1",
        "--learning_rate=0.02", f"--retraining={request.param}", "--retrain_epochs=1",
    )  # fmt: skip
    return request.param, directory, records


@pytest.mark.slow
def test_retraining_has_a_dense_control_and_keeps_the_mask(retrained):
    kind, directory, records = retrained
    arms = {(r.arm, r.target_sparsity) for r in records}
    assert arms == {
        ("dense", 0.0), ("pruned", 0.5), ("pruned", 0.9),
        ("dense_retrained", 0.0), ("retrained", 0.5), ("retrained", 0.9),
    }  # fmt: skip
    assert {r.settings["retraining"] for r in records} == {kind}
    assert {r.settings["learning_rate"] for r in records} == {0.02}
    epochs = {arm: set() for arm, _ in arms}
    for point in read_curves(directory / "curves.csv"):
        epochs[point.arm].add(point.epoch)
    again = {4} if kind == "finetune" else {3}
    assert epochs == {
        "dense": {1, 2, 3}, "pruned": set(), "dense_retrained": again, "retrained": again,
    }  # fmt: skip


@pytest.mark.slow
def test_the_dense_network_rewound_and_retrained_is_itself(retrained):
    kind, _, records = retrained
    last = [r for r in records if r.checkpoint == "last" and r.split == "test"]
    dense = {r.seed: (r.accuracy, r.loss) for r in last if r.arm == "dense"}
    again = {r.seed: (r.accuracy, r.loss) for r in last if r.arm == "dense_retrained"}
    # Weights, moments, learning rates and data of the last epoch, once more: the same bits.
    assert (again == dense) == (kind == "rewind_weights")


@pytest.fixture(scope="module")
def rewound(place):
    directory = place / "rewound"
    records = command(
        "winning_ticket", directory, "--epochs=2", "--num_layers=1", "--levels=0,0.5,0.8",
        "--learning_rate=0.02", "--rewind_epoch=25%", "--arms=ticket,reinit,shuffled",
    )  # fmt: skip
    return directory, records


@pytest.mark.slow
def test_a_rewound_ticket_of_level_zero_is_the_dense_network(rewound):
    _, records = rewound
    last = [r for r in records if r.checkpoint == "last"]
    for split in ("validation", "test"):
        scores = {
            arm: {
                r.seed: (r.accuracy, r.loss)
                for r in last
                if (r.arm, r.target_sparsity, r.split) == (arm, 0.0, split)
            }
            for arm in ("dense", "ticket", "reinit")
        }
        assert scores["ticket"] == scores["dense"]
        assert scores["reinit"] != scores["dense"]


@pytest.mark.slow
def test_a_rewound_ticket_says_what_it_started_from(rewound):
    directory, records = rewound
    assert {r.settings["rewind_epoch"] for r in records} == {"25%"}
    initial = {}
    for seed in (0, 1):
        for level in ("0", "0.5", "0.8"):
            ticket = load_ticket(directory / "tickets" / f"seed_{seed}" / f"level_{level}")
            assert ticket.rewind_params is not None
            head = np.asarray(ticket.rewind_params["head"]["kernel"])
            assert not np.array_equal(head, ticket.initial_params["head"]["kernel"])
            assert not np.array_equal(head, ticket.trained_params["head"]["kernel"])
            np.testing.assert_array_equal(initial.setdefault(seed, head), head)
    # A mask costs a run, then what is left of one after rewinding: 25% of 14 steps is 4.
    steps = {r.level: r.mask_steps for r in records if r.arm == "ticket"}
    assert steps == {1: 14, 2: 14 + 10, 3: 14 + 10 + 10}
    # Fresh controls train all of it, rewound rows what is left: three steps and an epoch.
    first = {}
    for point in read_curves(directory / "curves.csv"):
        first.setdefault(point.arm, set()).add(point.epoch)
    assert set(first) == {"dense", "ticket", "reinit", "shuffled"}
    assert all(epochs == {1, 2} for epochs in first.values())


@pytest.mark.slow
def test_a_mask_that_is_not_kept_grows_back(place):
    records = command(
        "winning_ticket", place / "grown", "--epochs=1", "--num_layers=1", "--levels=0.6",
        "--nokeep_mask", "--scope=tensor", "--schedule=oneshot",
    )  # fmt: skip
    ticket = load_ticket(place / "grown" / "tickets" / "seed_0" / "level_0.6")
    assert sparsity(ticket.mask) == pytest.approx(0.6, abs=0.01)  # each tensor rounds
    kernel, mask = (
        np.asarray(tree["lstm_0"]["forward"]["input_kernel"])
        for tree in (ticket.trained_params, ticket.mask)
    )
    assert (kernel[~mask] != 0).all()
    assert {r.achieved_sparsity for r in records if r.arm == "ticket"} == {sparsity(ticket.mask)}


@pytest.mark.slow
def test_the_papers_readout_reads_padding_and_its_mask_is_the_heads(place):
    records = command(
        "prune_after_training", place / "paper", "--epochs=1", "--num_layers=1", "--levels=0.5",
        "--prunable=head", "--readout=last_position", "--unused_classes=1",
        "--nodropout_between_layers", "--freeze_embeddings",
    )  # fmt: skip
    assert {len(r.predicted_shares) for r in records} == {3}
    for r in records:
        if r.arm == "pruned" and r.density:
            assert set(r.density) == {"head/kernel"}
            assert r.achieved_sparsity == 0.5
            assert r.achieved_sparsity_all < 0.02


@pytest.mark.parametrize("rule", ["head", "lstm"])
def test_a_rule_by_name_masks_what_it_names(rule):
    params = {
        "embedding": {"embedding": np.ones((5, 3), np.float32)},
        "lstm_0": {"forward": {"input_kernel": np.ones((3, 8)), "bias": np.ones(8)}},
        "head": {"kernel": np.ones((4, 2)), "bias": np.ones(2)},
    }
    mask = full_mask(params, PRUNABLE[rule])
    assert (mask["head"]["kernel"].ndim, mask["lstm_0"]["forward"]["input_kernel"].ndim) == (
        (2, 0) if rule == "head" else (0, 2)
    )
    assert not any(np.ndim(leaf) for leaf in (mask["head"]["bias"], mask["embedding"]["embedding"]))
    assert apply_mask(params, mask)["head"]["kernel"].sum() == 8


@pytest.mark.slow
def test_a_finished_grid_answers_again_and_leaves_its_table(swept, place):
    before = (place / "swept" / "records.csv").read_bytes()
    again = command(
        "prune_after_training", place / "swept", "--num_layers=1,2", "--learning_rate=0.01,0.03",
        "--epochs=2", "--levels=0,0.4,0.9",
    )  # fmt: skip
    assert (place / "swept" / "records.csv").read_bytes() == before
    assert len(again) == len(swept)
    with open(place / "swept" / "records.csv", newline="", encoding="utf-8") as file:
        assert {row["experiment"] for row in csv.DictReader(file)} == {"prune_after_training"}


# Flags.


def test_settings_that_may_have_several_values():
    config = cli.parse(Config, ["--num_layers=2,4,6", "--learning_rate=0.01"])
    assert (config.num_layers, config.learning_rate) == ((2, 4, 6), (0.01,))
    assert config.lines()["num_layers"] == "--num_layers=2,4,6"
    assert Config(num_layers=4, epochs=[1, 2]) == Config(num_layers=(4,), epochs="1,2")
    assert config.one("learning_rate") == 0.01
    with pytest.raises(UserError, match="--num_layers=2,4,6 names 3 values"):
        config.one("num_layers")


@pytest.mark.parametrize(
    "text", ["", "0", "2,2", "2,", "a", "1.5", "-1", "1e3", "2,inf", "True", "1001"]
)
def test_a_flag_of_whole_numbers_refuses_others(text):
    with pytest.raises(UserError, match="num_layers"):
        cli.parse(Config, [f"--num_layers={text}"])


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "0.1,0.1", "0.1;0.2", "1e999"])
def test_a_flag_of_numbers_refuses_others(text):
    with pytest.raises(UserError, match="learning_rate"):
        cli.parse(Config, [f"--learning_rate={text}"])


def test_configurations_are_named_by_what_varies():
    config = Config(num_layers=(2, 4), learning_rate=(0.001, 0.01), epochs=3)
    names = [
        grid.name_of(config, shape, rate)
        for shape in grid.shapes(config)
        for rate in config.learning_rate
    ]
    assert names == [
        "num_layers=2,learning_rate=0.001", "num_layers=2,learning_rate=0.01",
        "num_layers=4,learning_rate=0.001", "num_layers=4,learning_rate=0.01",
    ]  # fmt: skip
    assert grid.name_of(Config(), grid.Shape(2, 5), 0.003) == ""


@pytest.mark.parametrize(
    ("text", "step"), [("0", 0), ("1", 50), ("0.5", 25), ("10%", 20), ("2.5%", 5), ("99.9%", 199)]
)
def test_a_rewind_epoch_is_a_step(text, step):
    assert grid.step_of(Config(rewind_epoch=text), "rewind_epoch", grid.Shape(2, 4), 50) == step


@pytest.mark.parametrize("text", ["4", "100%", "-1", "nan", "", "one", "5 %%", "%"])
def test_a_rewind_epoch_outside_training_is_refused(text):
    with pytest.raises(UserError, match="is no point of training"):
        grid.step_of(Config(rewind_epoch=text), "rewind_epoch", grid.Shape(2, 4), 50)


@pytest.mark.parametrize(
    "flag", ["--schedule=iterative", "--arms=ticket", "--rewind_epoch=1", "--nokeep_mask"]
)
def test_what_only_winning_ticket_does_is_refused_elsewhere(flag):
    name = flag.split("=")[0].replace("--no", "--")
    with pytest.raises(UserError, match=f"{name} means nothing to this command"):
        cli.parse(Config, [flag], "prune_after_training")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", ["prune_after_training", "post_prune_training"])
def test_a_flag_of_another_command_is_one_line(experiment, tmp_path):
    done = commands.run(f"lth_flax.experiments.{experiment}", "--arms=ticket", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --arms means nothing to this command")
    assert list(tmp_path.iterdir()) == []
