"""`compare_methods`, end to end on a tiny corpus."""

import csv

import pytest
from test_other_experiments import command

from lth_flax import cli
from lth_flax.config import CompareConfig
from lth_flax.errors import UserError
from lth_flax.experiments.compare_methods import main

METHODS = (
    "snip", "ticket", "grasp", "synflow", "jacobian", "early_bird", "gradual", "rigl",
)  # fmt: skip


@pytest.mark.slow
def test_every_method_has_its_rows_and_costs(tmp_path):
    directory = tmp_path / "methods"
    # Compiled as users do: XLA has refused what it takes without its optimizations.
    records = command(
        "compare_methods", directory, f"--methods={','.join(METHODS)}", "--levels=0.5,0.8",
        "--epochs=2", "--num_layers=1", "--mask_every=2", "--score_examples=64", "--report",
        JAX_DISABLE_MOST_OPTIMIZATIONS="0",
    )  # fmt: skip
    last = [r for r in records if (r.checkpoint, r.split) == ("last", "test")]
    cells = {(r.arm, r.seed, r.target_sparsity): r for r in last}
    controls = ("dense_equal_cost", "random_equal_cost")
    assert len(last) == len(cells) == 2 * (1 + 2 * (len(METHODS) + len(controls)))
    for (arm, _, level), record in cells.items():
        assert record.achieved_sparsity == pytest.approx(
            0 if arm.startswith("dense") else level, abs=1e-3
        )
        total = record.mask_steps + record.train_steps
        # A run has two epochs of seven steps; a ticket's search one for each level, and itself.
        expected = {
            "dense": 14,
            "snip": 14 + 2,
            "grasp": 14 + 2 * 3,  # of each batch a gradient, and a Hessian by a vector as two more
            "synflow": 14 + 100,  # a gradient in each of its rounds
            "jacobian": 14 + 2,
            "ticket": 28 if level == 0.5 else 42,
            "gradual": 14,
            "rigl": 14,
            **dict.fromkeys(controls, 28 if level == 0.5 else 42),
        }
        if arm == "early_bird":
            assert total == 14 + (record.search["step"] or 14)
        else:
            assert total == expected[arm]
        assert record.dense_steps <= total
    with (directory / "methods.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["method"] for line in lines} == {"dense", *METHODS, *controls}
    # Tests are of the first method named.
    assert {line["method"] for line in lines if line["p"]} == {*METHODS[1:], *controls}
    assert (directory / "report" / "methods.png").exists()


def test_what_cannot_be_is_one_line(monkeypatch):
    with pytest.raises(UserError, match="--methods=snip: expected two or more, each once"):
        main(CompareConfig(methods=("snip",)))
    with pytest.raises(UserError, match="each once"):
        main(CompareConfig(methods=("snip", "snip")))
    with pytest.raises(UserError, match="one or more of ticket, random"):
        CompareConfig(methods=("no_such",))
    for flag in ("--schedule=oneshot", "--method=rigl", "--mask_from=initialization"):
        with pytest.raises(UserError, match="means nothing to this command"):
            cli.parse(CompareConfig, [flag], name="compare_methods")
