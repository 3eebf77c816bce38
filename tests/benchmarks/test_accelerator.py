"""The benchmark of accelerators, tiny and on a CPU: parts do what they say, and end in time."""

import json
import shlex
import sys
from pathlib import Path

import commands
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax import cli
from lth_flax.benchmarks import accelerator
from lth_flax.benchmarks.accelerator_parts import (
    FULL,
    QUICKSTART,
    TINY,
    difference,
    noise,
    rows_of,
    write_tweets,
)
from lth_flax.benchmarks.experiment import SPLIT, VOCABULARY
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.models import lstm

ROOT = Path(__file__).resolve().parents[2]


def answers(change=0.0, row=0):
    """(outputs, (loss, gradients)) of two rows; a gradient of one of them changed."""
    grads = np.array([[3.0, 4.0], [0.3, 0.4]], np.float32)
    grads[row, 0] *= 1 + change
    outputs = {"loss": np.ones((2, 3), np.float32), "predicted": np.array([[0, 1, 1], [1, 0, 0]])}
    return outputs, (np.array([1.0, 2.0], np.float32), {"w": grads})


@pytest.mark.parametrize("row", [0, 1])
def test_an_error_in_one_row_is_as_large_as_that_row(row):
    found = difference(answers(1e-2, row), answers())
    # 1% of 3 against the norm of (3, 4), whatever the rows beside it are.
    assert found["gradients"] == pytest.approx(0.006, rel=1e-3)
    assert not found["agree"]
    assert found["outputs"] == 0
    assert difference(answers(), answers())["agree"]


def test_another_class_and_another_loss_are_seen():
    one, other = answers(), answers()
    one[0]["predicted"][0, 0] = 1
    one[0]["loss"][1, 0] = 1.5
    found = difference(one, other)
    assert found["same_classes"] == pytest.approx(5 / 6)
    assert found["outputs"] == pytest.approx(0.5 / 3**0.5, rel=1e-5)
    assert not found["agree"]


def test_chance_is_told_from_a_difference():
    base = [0.70, 0.72, 0.69, 0.71, 0.73, 0.70, 0.72, 0.71]
    assert noise(base, base)["agree"]
    mixed = [a + d for a, d in zip(base, [0.02, -0.02] * 4, strict=True)]
    assert noise(mixed, base)["agree"]
    worse = [a - d for a, d in zip(base, [0.03, 0.04] * 4, strict=True)]
    found = noise(worse, base)
    assert found["mean"] == pytest.approx(-0.035)
    assert not found["agree"]


def test_the_quickstart_is_that_of_the_flagfile():
    lines = (ROOT / "configs" / "quickstart.flags").read_text().splitlines()
    flags = [line for line in lines if line.startswith("--")]
    theirs = cli.parse(Config, [one for flag in flags for one in shlex.split(flag)])
    settings = {**QUICKSTART, **SPLIT, "vocabulary_size": VOCABULARY}
    levels = ",".join(map(str, settings["levels"]))
    given = [f"--{name}={value}" for name, value in (settings | {"levels": levels}).items()]
    ours = cli.parse(Config, [*given, "--work_dir=runs/quickstart"])
    assert ours.shown() == theirs.shown()


def test_made_up_tweets_are_read_as_tweets(tmp_path):
    write_tweets(tmp_path / "tweets.csv")
    config = Config(dataset="financial_tweets", data_file=str(tmp_path / "tweets.csv"))
    source = load_source(config)
    assert source.class_names == ("negative", "positive")
    assert len(source.texts) == 5790


def test_the_limits_of_the_parts_are_nine_minutes():
    assert sum(accelerator.LIMITS.values()) + accelerator.STARTING <= 9 * 60
    assert set(accelerator.TABLES) == set(accelerator.LIMITS)
    assert FULL.rows[0] == 1
    assert FULL.rows[-1] == 1024
    assert FULL.replicates == 160
    assert [rows_of(rows) for rows in (1, 3, 8, 64)] == [8, 6, 8, 64]


@pytest.mark.slow
def test_an_unrolled_time_loop_is_the_same_function(monkeypatch):
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.normal(size=shape).astype(np.float32) / 2

    layer = {
        direction: {
            "input_kernel": weights(3, 8), "recurrent_kernel": weights(2, 8), "bias": weights(8),
        }
        for direction in lstm.DIRECTIONS
    }  # fmt: skip
    inputs, lengths = weights(2, 7, 3), np.array([7, 4], np.int32)

    def value(layer):
        return jnp.sum(lstm.bidirectional_lstm(layer, inputs, lengths)[0] ** 2)

    found = []
    for unroll in (1, 4):
        monkeypatch.setattr(lstm, "UNROLL", unroll)
        jax.clear_caches()  # else the layer is not traced again
        compiled = jax.jit(jax.value_and_grad(value))
        assert f"unroll={unroll}" in str(jax.make_jaxpr(compiled)(layer))
        found.append(jax.device_get(compiled(layer)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *found)


@pytest.mark.slow
def test_a_part_that_fails_and_one_that_takes_too_long_are_told():
    failed = accelerator.run("no_such_part", [], seconds=60)
    assert "no_such_part" in failed["failed"]
    assert "found" not in failed
    late = accelerator.run("machine", [], seconds=0.1)
    assert late["failed"].startswith("stopped after")
    assert late["seconds"] < 10


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--parts=agree,speed", "--parts=speed: expected some of"),
        ("--data_file=no", "expected a f"),
    ],
)
def test_bad_arguments_are_refused(monkeypatch, capsys, argument, message):
    monkeypatch.setattr(sys, "argv", ["accelerator", argument])
    with pytest.raises(SystemExit) as ended:
        accelerator.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_tiny_parts_on_a_cpu(tmp_path):
    file = tmp_path / "found.json"
    parts = "agree,cudnn,throughput,memory"
    done = commands.run(
        "lth_flax.benchmarks.accelerator", "--tiny", f"--parts={parts}", "--minutes=30",
        f"--json={file}", cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(file.read_text())
    assert result["machine"]["backend"] == "cpu"
    assert set(result["parts"]) == set(parts.split(","))
    assert not [name for name, part in result["parts"].items() if "failed" in part]
    found = {name: part["found"] for name, part in result["parts"].items()}
    assert set(found["agree"]) == {"vmap, map", "vmap, CPU", "map, CPU"}
    assert all(one["agree"] for one in found["agree"].values())
    assert found["cudnn"]["skipped"]
    assert set(found["throughput"]) == {str(rows) for rows in TINY.rows}
    predicted = [found["memory"][str(rows)]["predicted"] for rows in TINY.memory]
    assert 0 < predicted[0] < predicted[1]
    for name in parts.split(","):
        assert f"{name} " in done.stdout
