"""A setting that means nothing where it was given is refused in one line, or noted."""

import dataclasses
import re
from pathlib import Path

import pytest

from lth_flax import cli
from lth_flax.config import (
    CompareConfig,
    Config,
    StabilityConfig,
    SweepConfig,
    TransferConfig,
    settings_of,
)
from lth_flax.errors import UserError
from lth_flax.ignored import DEFAULTS, NEEDS, UNUSED, notes, refuse_ignored
from lth_flax.runs.choices import chosen_arms
from lth_flax.training.optimizers import keep_pruned

ROOT = Path(__file__).resolve().parents[1]
KINDS = {
    "connectivity": StabilityConfig, "compare_methods": CompareConfig, "sweep": SweepConfig,
    "transfer": TransferConfig,
}  # fmt: skip
"""Commands with settings of their own."""
OPTIMIZER = "lth_flax.training.optimizers:keep_pruned"

ALONE = [
    # (what is ignored alone, what it needs)
    ("--prune_rate=0.3", "--rounds=2"),
    ("--reinit_draws=3 --arms=ticket", "--arms=ticket,reinit"),
    ("--reinit_draws=3 --arms=ticket,shuffled", "--arms=ticket,shuffled,reinit"),
    ("--unit_norm=2", "--structure=units"),
    ("--keep=start", "--max_length=30"),
    (f"--clip_norm=0.5 --optimizer={OPTIMIZER}", "--optimizer=adam"),
    (f"--momentum=0.5 --optimizer={OPTIMIZER}", "--optimizer=sgd"),
    (f"--weight_decay=0.5 --optimizer={OPTIMIZER}", "--optimizer=sgd"),
    ("--scope=tensor --method=rigl", "--method=gradual"),
    ("--mask_every=7", "--method=set"),
    ("--mask_end=0.6", "--method=rigl"),
    ("--mask_start=0.1", "--method=gradual"),
    ("--initial_sparsity=0.1 --method=set", "--method=gradual"),
    ("--drop=0.2 --method=gradual", "--method=set"),
    ("--distribution=uniform", "--method=rigl"),
    ("--scope=tensor --method=supermask", "--method=gradual"),
    ("--share_layers --num_layers=3", "--method=supermask"),
    ("--share_layers --method=supermask", "--num_layers=2,3"),
    ("--early_bird_distance=0.2", "--method=early_bird"),
    ("--early_bird_draws=2", "--method=early_bird"),
    ("--early_bird_start=emergence --method=gradual", "--method=early_bird"),
    ("--bptt=20", "--task=language_model"),
    ("--max_tokens=1000", "--task=language_model"),
    ("--tied", "--task=language_model"),
    *(
        (f"--{given} --task=language_model", "--task=text_classification")
        for given in (
            "duplicates=drop",
            "max_length=30",
            "max_shapes=2",
            "embeddings_file=glove.txt",
            "freeze_embeddings=true",
            "readout=last_position",
            "dropout_between_layers=false",
            "unused_classes=1",
            "structure=units",
        )
    ),
]


@pytest.mark.parametrize(("alone", "needed"), ALONE)
def test_what_needs_another_setting_is_refused_without_it(alone, needed):
    name = re.match(r"--(?:no)?(\w+)", alone).group(1)
    with pytest.raises(UserError, match=rf"^--{name}=\S+ means nothing without ") as refused:
        cli.parse(Config, alone.split())
    assert "\n" not in str(refused.value)
    cli.parse(Config, [*alone.split(), *needed.split()])


def test_every_need_is_tried_above():
    tried = {re.match(r"--(?:no)?(\w+)", alone).group(1) for alone, _ in ALONE}
    assert tried == set(NEEDS)


def test_from_python_a_function_says_what_it_is():
    refuse_ignored(Config(reinit_draws=2, arms=("ticket", "reinit")))
    with pytest.raises(UserError, match="momentum=0.5 means nothing"):
        refuse_ignored(Config(momentum=0.5, optimizer=keep_pruned))


def test_a_flagfile_may_have_defaults_of_what_is_ignored():
    lines = list(Config().lines().values())
    for command in UNUSED:
        kept = [line for line in lines if not line.startswith("--schedule")]
        schedule = DEFAULTS.get(command, {}).get("schedule", "iterative")
        cli.parse(Config, [*kept, f"--schedule={schedule}"], command)


@pytest.mark.parametrize("command", UNUSED)
def test_every_flag_that_a_command_ignores_is_refused_and_not_in_its_help(command):
    text = cli.help_text(lambda config: None, Config, command)
    other = {str: "ticket", float: "0.25", bool: "true"}
    for name in UNUSED[command]:
        setting = settings_of()[name]
        default = DEFAULTS.get(command, {}).get(name, setting.default)
        value = next(
            (n for n in setting.names or () if n != setting.text(default)),
            str(max(3, int(setting.low or 0))) if setting.kind is int else other[setting.kind],
        )
        if setting.kind is bool:
            value = str(not setting.default).lower()
        with_it = [f"--{name}={value}", *(["--rounds=2"] if name == "prune_rate" else [])]
        with pytest.raises(UserError, match="means nothing to this command"):
            cli.parse(Config, with_it, command)
        assert f"--{name}\n" not in text
        assert f"--[no]{name}\n" not in text


def command_of(file):
    """Which command a flagfile of configs/ is for, by its name."""
    found = {"prune_after": "prune_after_training", "post_prune": "post_prune_training",
             "paper_figure1": "prune_after_training", "paper_figure2": "prune_after_training",
             "paper_figure4": "post_prune_training", "connectivity": "connectivity",
             "compare_methods": "compare_methods", "early_methods": "compare_methods"}  # fmt: skip
    return next((name for part, name in found.items() if part in file.stem), "winning_ticket")


@pytest.mark.parametrize("file", sorted((ROOT / "configs").glob("*.flags")), ids=lambda f: f.stem)
def test_no_configuration_has_a_flag_that_is_ignored(file):
    command = command_of(file)
    config = cli.parse(KINDS.get(command, Config), [f"--flagfile={file}"], command)
    if not config.dense_only:
        chosen_arms(config)
    assert notes(config) == []


RECORDED = sorted((ROOT / "experiments").glob("*/flags.txt"))


@pytest.mark.parametrize("file", RECORDED, ids=lambda f: f.parent.name)
def test_every_recorded_run_still_replays(file):
    command = re.match(r"# python -m lth_flax\.experiments\.(\w+)", file.read_text()).group(1)
    cli.parse(KINDS.get(command, Config), [f"--flagfile={file}"], command)


def test_what_is_no_mistake_is_noted():
    assert notes(Config(dense_only=True)) == []
    config = Config(dense_only=True, levels=(0.5,), arms=("ticket",))
    (note,) = notes(config)
    assert note.endswith("passes over --levels, --arms")
    assert notes(dataclasses.replace(config, dense_only=False)) == []
    (note,) = notes(Config(dataset="csv", synthetic_size=200))
    assert note == "note: --dataset=csv passes over --synthetic_size"
