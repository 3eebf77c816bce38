"""`--plan` says what a run will be, writes nothing, and is right."""

import re

import commands
import pytest

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.errors import Planned
from lth_flax.experiments import winning_ticket

TINY = [
    "--synthetic_size=200", "--hidden_size=4", "--embedding_size=4", "--batch_size=32",
    "--max_shapes=1", "--num_seeds=3", "--noprogress",
]  # fmt: skip
STEPS = 5  # an epoch: 200 texts less 10% and 20% are 140, in batches of 32


def numbers(text, pattern):
    """The numbers in the line of the plan that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(pattern)]
    return [float(n.replace(",", "")) for n in re.findall(r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?", line)]


@pytest.mark.slow
def test_a_plan_counts_rows_and_steps_and_writes_nothing(tmp_path, monkeypatch, capsys):
    # It chooses devices for the whole process; the tests have theirs.
    monkeypatch.setattr(winning_ticket, "configure_jax", lambda config: None)
    monkeypatch.chdir(tmp_path)
    arguments = [
        "--plan", "--levels=0.5,0.8", "--arms=ticket,reinit,shuffled", "--reinit_draws=2",
        "--epochs=2", "--rewind_epoch=1", "--learning_rate=0.01,0.02",
    ]  # fmt: skip
    with pytest.raises(Planned):
        winning_ticket.main(cli.parse(Config, [*TINY, *arguments]))
    text = capsys.readouterr().out
    # Per rate and seed one dense network, at each level a ticket, two reinits and one shuffled.
    rows = 2 * 3 * (1 + 2 * 4)
    # Tickets and shuffled start after the first of two epochs.
    steps = 2 * 3 * STEPS * (2 + 2 * (1 + 2 * 2 + 1))
    assert numbers(text, "Plan:") == [rows, steps]
    of_reinit, of_shuffled = (
        numbers(text, f"Smallest p of ticket against {arm}") for arm in ("reinit", "shuffled")
    )
    assert of_reinit == [3, 2, pytest.approx(2 / 3**3, rel=0.02), 0.05]
    assert of_shuffled == [3, 1, 2 / 2**3, 0.05]
    assert "never below" in text
    (hours,) = numbers(text, "Time:")
    assert 0 < hours < 1
    assert min(numbers(text, "Disk:")) > 0
    assert list(tmp_path.iterdir()) == []


def run(experiment, *arguments, cwd):
    done = commands.run(
        f"lth_flax.experiments.{experiment}", *TINY, "--cache_dir=cache", "--noreport", *arguments,
        cwd=cwd,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.exhaustive(sample=1)
@pytest.mark.parametrize(
    ("experiment", "rows"),
    [("winning_ticket", 3 * 5), ("prune_after_training", 3), ("post_prune_training", 3 * 4)],
)
def test_the_run_is_as_planned(tmp_path, experiment, rows):
    arguments = ("--levels=0.5,0.8", "--epochs=2", "--work_dir=run")
    plan = run(experiment, *arguments, "--plan", cwd=tmp_path)
    assert numbers(plan, "Plan:")[0] == rows
    assert not (tmp_path / "run").exists()
    said = run(experiment, *arguments, cwd=tmp_path)
    assert f"; {rows} replicates of" in said
    disk = 1e6 * numbers(plan, "Disk:")[0]
    found = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    whole = sum(path.stat().st_size for path in found)
    assert whole / 5 < disk + 5e4
    assert disk < 5 * whole


@pytest.mark.slow
def test_a_plan_counts_how_many_tests_are_adjusted_together(tmp_path):
    out = run("compare_methods", "--plan", "--methods=ticket,snip,rigl", cwd=tmp_path)
    # Against snip, rigl and the two controls of equal cost: four, of 2 / 2^3 each.
    for arm in ("snip", "rigl", "dense_equal_cost", "random_equal_cost"):
        assert numbers(out, f"Smallest p of ticket against {arm},") == [3, 1, 0.25, 1, 4, 0.05]
    assert out.count("never below") == 4


@pytest.mark.slow
def test_a_sweep_says_its_tasks_and_stops(tmp_path):
    out = run("sweep", "--plan", "--grid=num_layers=1,2", "--seeds_per_task=2", cwd=tmp_path)
    assert out.startswith("4 tasks of up to 2 seeds (2 cells x 2 blocks)")
    assert "Nothing was written" in out
    assert list(tmp_path.iterdir()) == []
