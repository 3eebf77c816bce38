"""Settings: read alike from a flag, a flagfile and Python, written so that they come back."""

import dataclasses
import os

import commands
import pytest

from lth_flax import cli
from lth_flax.config import Config, SweepConfig, names_of, settings_of
from lth_flax.errors import UserError
from lth_flax.pruning import scores
from lth_flax.runs.choices import chosen_levels

CHANGED = {
    "num_layers": (3, 1), "epochs": (2,), "learning_rate": (0.1, 0.25), "levels": (0.25, 0.5),
    "arms": ("ticket", "random"), "seeds": "4:6", "rounds": None, "data_file": "a b=c.csv",
    "progress": False, "rows_per_program": 3, "criterion": "random", "keep": "start",
    "max_length": 30,
    "cache_dir": "", "grid": ("epochs=1,2", "num_layers=1,2"), "gpus_per_task": 0.5,
}  # fmt: skip


def test_what_is_written_comes_back(tmp_path):
    config = SweepConfig(**CHANGED)
    lines = list(config.lines().values())
    (tmp_path / "a.flags").write_text("# why\n" + "\n".join(lines) + "\n")
    assert cli.parse(SweepConfig, [f"--flagfile={tmp_path / 'a.flags'}"]) == config
    # And every default does.
    assert cli.parse(Config, list(Config().lines().values())) == Config()


def test_what_was_given_is_known():
    config = cli.parse(Config, ["--epochs=5", "--score=random", "--noprogress"])
    assert config.given == {"epochs", "criterion", "progress"}
    assert config.epochs == (5,)  # the default, and given


def test_a_value_is_checked_alike_from_a_flag_and_from_python():
    for name, value in [
        ("hidden_size", 0), ("dropout", 1.5), ("keep", "middle"), ("alpha", float("nan")),
        ("levels", ["half"]), ("epochs", 1.5), ("num_seeds", True), ("criterion", "none"),
        ("work_dir", "a\nb"), ("progress", "perhaps"), ("batch_size", 2**40),
    ]:  # fmt: skip
        text = ",".join(map(str, value)) if isinstance(value, list) else value
        with pytest.raises(UserError, match=name) as from_flag:
            cli.parse(Config, [f"--{name}={text}"])
        with pytest.raises(UserError, match=name) as from_python:
            Config(**{name: value})
        assert "Traceback" not in str(from_flag.value)
        expected = str(from_python.value).partition(": ")[2]
        assert expected in str(from_flag.value)


def test_numbers_of_numpy_are_numbers():
    np = pytest.importorskip("numpy")
    config = Config(hidden_size=np.int64(8), dropout=np.float32(0.5), levels=np.array([0.5, 0.75]))
    assert (config.hidden_size, config.dropout, config.levels) == (8, 0.5, (0.5, 0.75))
    assert type(config.hidden_size) is int


def oldest_first(params, *, initial_params=None, loss_fn=None, key=None):
    """A score from outside the package."""
    return scores.magnitude(params)


def test_a_function_stands_for_one_that_is_not_in_the_table():
    setting = settings_of()["criterion"]
    config = Config(criterion=oldest_first)
    assert setting.function(config.criterion) is oldest_first
    assert config.lines()["criterion"] == f"--criterion={__name__}:oldest_first"
    assert setting.function("random") is scores.random
    assert setting.function("lth_flax.pruning.scores:magnitude") is scores.magnitude
    for bad in ("no_such_module:f", "math:no_such", "math:pi", ":", "math:"):
        with pytest.raises(UserError, match="criterion"):
            Config(criterion=bad)


def test_every_setting_has_a_role_or_none_and_help():
    assert names_of("seeds") == ("num_seeds", "seeds")
    assert {"work_dir", "data_file", "embeddings_file", "ray_address"} <= set(names_of("machine"))
    assert not set(names_of("training")) & set(names_of("machine"))
    for name, setting in settings_of(SweepConfig).items():
        assert setting.help.endswith("."), name
        assert setting.read(setting.default) == setting.default, name


def test_nothing_of_a_config_is_changed_in_place():
    config = Config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = (9,)
    assert dataclasses.replace(config, epochs=9).epochs == (9,)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "listed", "left_out"),
    [
        ("prune_after_training", ["--levels"], ["--arms", "--rewind_epoch"]),
        ("sweep", ["--grid", "--arms", "--[no]dense_only", "default ticket,reinit"], []),
    ],
)
def test_help_lists_the_flags_of_a_command(command, listed, left_out, tmp_path):
    done = commands.run(f"lth_flax.experiments.{command}", "--help", cwd=tmp_path)
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert done.stderr == ""
    for words in listed:
        assert any(words in line for line in lines), words
    for name in left_out:
        assert name not in lines
    assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        # A decimal comma makes a list of two, or no number at all.
        ("--learning_rate=0,003", ["above 0", "decimals have a point"]),
        ("--learning_rate=0.001,0,003", ["above 0", "decimals have a point"]),
        ("--dropout=0,5", ["from 0 to 0.99", "decimals have a point"]),
        ("--margin=0,5", ["decimals have a point"]),
        ("--weight_decay=,01", ["decimals have a point"]),
        ("--levels=0,5", ["[0, 1)", "decimals have a point"]),
        ("--levels=0,5,0,8", ["[0, 1)", "decimals have a point"]),
        # Nothing is trained at a rate of 0.
        ("--learning_rate=0", ["above 0"]),
        ("--retrain_lr_factor=0", ["above 0"]),
        # A flag that is switched off has no value, and a value is true or false.
        ("--noprogress=true", ["--noprogress=true does not take an argument"]),
        ("--noprogress=false", ["--noprogress=false does not take an argument"]),
        ("--nokeep_mask=1", ["--nokeep_mask=1 does not take an argument"]),
        ("--progress=off", ["true or false"]),
        ("--progress=", ["true or false"]),
    ],
)
def test_a_slip_of_the_pen_is_one_line_that_sees_it(argument, words):
    with pytest.raises(UserError) as refused:
        chosen_levels(cli.parse(Config, [argument]))
    assert "\n" not in str(refused.value)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize("text", ["false", "False", "f", "0"])
def test_a_switch_may_be_written_in_the_usual_ways(text):
    assert not cli.parse(Config, [f"--progress={text}"]).progress


def test_several_rates_are_no_decimal_commas():
    config = cli.parse(Config, ["--learning_rate=0.001,0.003,1,1e-4"])
    assert config.learning_rate == (0.001, 0.003, 1.0, 1e-4)


def test_every_path_may_begin_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    paths = {name for name, setting in settings_of(SweepConfig).items() if setting.path}
    assert paths == {
        "work_dir", "data_file", "validation_file", "test_file", "data_dir", "embeddings_file",
        "ticket",
    }  # fmt: skip
    for name in paths:
        assert getattr(Config(**{name: "~/a b/c"}), name) == str(tmp_path / "a b" / "c")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(UserError, match="no home directory"):
        Config(work_dir="~/x")
    Config()
