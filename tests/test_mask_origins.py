"""`find_tickets` with masks from elsewhere than the end of training."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_search import mlp, rows, search

from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.ignored import refuse_ignored
from lth_flax.pruning.masks import count_kept, full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.runs.origin import check_origin
from lth_flax.training.changing_masks import changing

COMPILES_MOST = pytest.mark.slow
TOTAL = 6 * 16 + 16 * 2
STEPS = 15  # three epochs of five
LEVELS = (0.5, 0.8)


@cache
def found(**settings):
    return search(**settings)


def of(result, arm, level, split="test", checkpoint="last"):
    return sorted(
        (
            record
            for record in result.records
            if (record.arm, record.target_sparsity, record.split, record.checkpoint)
            == (arm, level, split, checkpoint)
        ),
        key=lambda record: record.seed,
    )


@pytest.mark.parametrize("schedule", [pytest.param("iterative", marks=pytest.mark.slow), "oneshot"])
def test_masks_at_initialization_are_those_of_theta_0(schedule):
    result = found(mask_from="initialization", schedule=schedule)
    for (_, level), ticket in result.tickets.items():
        # By magnitude, one after the other or at once is the same mask.
        expected = prune(
            magnitude(ticket.initial_params), full_mask(ticket.initial_params), sparsity=level
        )
        jax.tree.map(np.testing.assert_array_equal, ticket.mask, expected)
        assert count_kept(ticket.mask) == TOTAL - round(level * TOTAL)
    for record in of(result, "ticket", 0.8):
        assert record.mask_from == "initialization"
        assert record.mask_steps == 0
        assert record.train_steps == STEPS
        assert record.dense_steps == pytest.approx(
            STEPS * count_kept(ticket.mask) / TOTAL, rel=0.02
        )


def test_a_score_that_reads_data_costs_its_batches():
    result = found(mask_from="initialization", score="snip", score_examples=64)
    # 64 examples in batches of 32, once for each level on the way.
    assert {record.mask_steps for record in of(result, "ticket", 0.5)} == {2}
    assert {record.mask_steps for record in of(result, "ticket", 0.8)} == {4}
    assert {record.method for record in of(result, "ticket", 0.5)} == {"snip"}


@pytest.mark.slow
def test_masks_from_a_step_are_those_of_a_shorter_run_with_the_same_schedule():
    early = found(mask_from=1)
    for record in of(early, "ticket", 0.8):
        assert record.mask_from == "1"
        assert record.mask_steps == 2 * 5  # two rounds of an epoch each
        assert record.train_steps == STEPS
    # The same weights are where tickets of a late rewinding start from.
    rewound = found(mask_from=1, rewind=1)
    for seed in range(2):
        first = rewound.tickets[seed, 0.5]
        kept = first.rewind_params
        expected = prune(magnitude(kept), full_mask(kept), sparsity=0.5)
        jax.tree.map(np.testing.assert_array_equal, first.mask, expected)
        jax.tree.map(np.testing.assert_array_equal, early.tickets[seed, 0.5].mask, expected)
        assert early.tickets[seed, 0.5].rewind_params is None
    assert {record.train_steps for record in of(rewound, "ticket", 0.5)} == {STEPS - 5}
    assert {record.mask_steps for record in of(rewound, "ticket", 0.8)} == {5}
    assert {record.train_steps for record in of(rewound, "reinit", 0.5)} == {STEPS}


def test_from_the_end_it_costs_every_round():
    result = found()
    assert {record.mask_steps for record in of(result, "ticket", 0.8)} == {2 * STEPS}
    for record in of(result, "ticket", 0.8):
        assert record.dense_steps == pytest.approx(STEPS * (1 + 0.5 + 0.2), abs=0.2)
    assert {record.mask_steps for record in of(result, "dense", 0.0)} == {0}
    assert {record.dense_steps for record in of(result, "dense", 0.0)} == {STEPS}


@pytest.mark.parametrize("method", ["gradual", pytest.param("set", marks=COMPILES_MOST), "rigl"])
def test_a_mask_that_changes_is_what_tickets_and_records_have(method):
    result = found(method=method, mask_every=2)
    for (_, level), ticket in result.tickets.items():
        assert count_kept(ticket.mask) == TOTAL - round(level * TOTAL)
        for leaf, kept in zip(
            jax.tree.leaves(ticket.trained_params), jax.tree.leaves(ticket.mask), strict=True
        ):
            if np.ndim(kept):
                assert (np.asarray(leaf)[~np.asarray(kept)] == 0).all()
    for record in of(result, "ticket", 0.8):
        assert (record.method, record.mask_from) == (method, "during training")
        assert record.achieved_sparsity == round(0.8 * TOTAL) / TOTAL
        assert (record.mask_steps, record.train_steps) == (0, STEPS)
    least = STEPS * 0.2
    for record in of(result, "ticket", 0.8):
        if method == "gradual":
            assert 1.3 * least < record.dense_steps < STEPS
        else:  # of rigl, five of the gradients are those of all weights
            more = 5 * 0.8 / 3 if method == "rigl" else 0
            assert record.dense_steps == pytest.approx(least + more, rel=0.02)
    # A fresh network under the mask that this training ended with.
    for record in of(result, "reinit", 0.8):
        assert (record.mask_steps, record.train_steps) == (STEPS, STEPS)
    # After an epoch of five steps, of which the mask changed at 0, 2 and 4, and until 11.
    for record in of(result, "ticket", 0.8, checkpoint="best"):
        begun = method == "gradual" and record.best_epoch == 1
        assert (record.achieved_sparsity < 0.7) == begun


@COMPILES_MOST
def test_a_changing_mask_is_the_same_in_another_table_and_another_run():
    whole = found(method="rigl", mask_every=2)
    alone = search(method="rigl", mask_every=2, levels=[0.8], seeds=range(1, 2))
    mine = [record.score for record in of(alone, "ticket", 0.8)]
    assert mine == [record.score for record in of(whole, "ticket", 0.8)][1:]


@pytest.mark.parametrize(
    "start", ["initialization", pytest.param("emergence", marks=COMPILES_MOST)]
)
@pytest.mark.slow
def test_early_bird_says_what_of_dense_training_it_cost(start):
    result = found(method="early_bird", early_bird_start=start, early_bird_distance=0.5)
    for level in LEVELS:
        for record in of(result, "ticket", level):
            said = record.search
            assert said["share"] == pytest.approx((said["step"] or STEPS) / STEPS, abs=1e-5)
            assert record.mask_steps == (said["step"] or STEPS)
            assert len(said["corrected"]) == len(said["distances"]) == 12 - 4  # a step each quarter
            begun = said["step"] or 0 if start == "emergence" else 0
            assert record.train_steps == STEPS - begun
            ticket = result.tickets[record.seed, level]
            assert count_kept(ticket.mask) == TOTAL - round(level * TOTAL)
            assert (ticket.rewind_params is not None) == (begun > 0)
            if begun:  # the mask is drawn from these very weights
                kept = ticket.rewind_params
                expected = prune(magnitude(kept), full_mask(kept), sparsity=level)
                jax.tree.map(np.testing.assert_array_equal, ticket.mask, expected)
    assert any(record.search["emerged"] for record in of(result, "ticket", 0.5))


@COMPILES_MOST
@pytest.mark.slow
def test_one_that_never_emerges_has_its_last_mask():
    result = found(method="early_bird", early_bird_distance=0.0, early_bird_draws=1)
    for record in of(result, "ticket", 0.8):  # three draws are too few to compare
        assert record.search["emerged"] is False
        assert record.search["share"] == 1.0


def freezing(optimizer, mask, *, key, kept, steps):
    """A method from outside: prunes at once, after half of the steps."""
    del key

    def change(mask, params, grads, step):
        del grads, step
        sizes = jnp.concatenate(
            [jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(params) if leaf.ndim > 1]
        )
        cut = jnp.sort(sizes)[sizes.size - kept]
        return jax.tree.map(
            lambda kept, leaf: kept & (jnp.abs(leaf) >= cut) if kept.ndim else kept, mask, params
        )

    return changing(optimizer, mask, due=lambda step: step == steps // 2, change=change)


@pytest.mark.slow
def test_a_method_from_outside_the_package():
    result = search(method=freezing)
    for (_, level), ticket in result.tickets.items():
        assert count_kept(ticket.mask) == TOTAL - round(level * TOTAL)
    assert of(result, "ticket", 0.5)[0].method.endswith(":freezing")


def scores(result):
    return {(r.row_id, r.checkpoint, r.split): (r.score, r.dense_steps) for r in result.records}


@COMPILES_MOST
def test_a_work_directory_is_read_again(tmp_path):
    task = mlp()
    whole = search(task, method="rigl", mask_every=2, work_dir=tmp_path)
    assert scores(whole) == scores(found(method="rigl", mask_every=2))
    again = search(task, method="rigl", mask_every=2, work_dir=tmp_path)
    assert rows(whole) == rows(again)
    assert again.tickets[0, 0.8].metadata["settings"]["method"] == "rigl"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "rigl", "schedule": "iterative"}, "--schedule=iterative does not go with"),
        ({"method": "set", "rewind": 1}, "--rewind_epoch=1 does not go with --method=set"),
        ({"method": "gradual", "mask_from": "initialization"}, "--mask_from=initialization does"),
        ({"method": "rigl", "score": "random"}, "--criterion=random does not go with"),
        ({"mask_from": 2, "rewind": 1}, "give both the same"),
        ({"mask_from": "initialization", "rewind": 1}, "leave out --rewind_epoch=1"),
        ({"mask_from": "end of training"}, "--mask_from=end of training is no point of training"),
        ({"mask_from": 3}, "--mask_from=3 is no point of training"),
        ({"drop": 0.5}, "--drop=0.5 means nothing without --method=set or rigl"),
        ({"method": "rigl", "mask_start": 0.5}, "means nothing without --method=gradual"),
        ({"method": "rigl", "scope": "tensor"}, "share weights among tensors by --distribution"),
        (
            {"method": "snip"},
            "expected one of early_bird, gradual, set, rigl, supermask, or module:function",
        ),
        ({"method": "gradual", "mask_end": 1.0}, "expected mask_start <= mask_end < 1"),
        ({"mask_from": "initialization", "score": "magnitude_increase"}, "compares trained with"),
        ({"no_such": 1}, r"find_tickets\(no_such=...\)"),
    ],
)
def test_what_does_not_go_together_is_one_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        search(**settings)
    assert "\n" not in str(error.value)


def test_the_same_from_flags():
    config = Config(method="rigl", given=frozenset({"method", "schedule"}))
    with pytest.raises(UserError, match="--schedule=iterative does not go with --method=rigl"):
        check_origin(config)
    check_origin(Config(method="rigl"))  # the default is nobody's wish
    with pytest.raises(UserError, match="--distribution=uniform means nothing without"):
        refuse_ignored(Config(distribution="uniform"))


def test_arms_know_the_trained_network():
    result = found(arms=("ticket", "trained_signs"), levels=(0.5,))
    for seed in range(2):
        assert of(result, "trained_signs", 0.5)[seed].target_sparsity == 0.5
