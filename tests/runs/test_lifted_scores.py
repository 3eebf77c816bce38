"""Masks from scores that the engine runs for all rows: the same as one by one on the host."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from host_path import next_mask

import lth_flax as lth
from lth_flax.config import Config
from lth_flax.pruning.levels import Level, from_rate, kept_counts
from lth_flax.pruning.masks import apply_mask, count_kept, full_mask
from lth_flax.pruning.scores import SCORES, InRounds, snip
from lth_flax.pruning.select import prune
from lth_flax.randomness import key
from lth_flax.runs.masks import Pruner, Scored, balanced, loss_over
from lth_flax.runs.setup import build
from lth_flax.training.steps import Recipe, gather

RNG = np.random.default_rng(0)


def arrays(length, size=60):
    x = RNG.normal(size=(size, length)).astype(np.float32)
    return {"x": x, "labels": (np.arange(size) % 3 == 0).astype(np.int32)}


EXAMPLES = lth.Examples.split([arrays(4), arrays(7, 90)], stratify="labels")
LEVELS = (Level(1, 0.5, None), Level(2, 0.9, None))


def init(init_key):
    first, second = jax.random.split(init_key)
    return {
        "hidden": {"kernel": jax.random.normal(first, (4, 9)), "bias": jnp.zeros(9)},
        "out": {"kernel": jax.random.normal(second, (9, 2))},
    }


def per_example(params, batch):
    hidden = jnp.tanh(batch["x"][:, -4:] @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["out"]["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])


def mean_loss(params, batch, _key):
    weight = batch["weight"]
    return jnp.sum(per_example(params, batch) * weight) / jnp.sum(weight)


TASK = lth.Task(init, mean_loss, lambda params, batch: {"loss": per_example(params, batch)},
                primary="loss", higher_is_better=False)  # fmt: skip


def recipe_of(task):
    return Recipe(task.loss, task.evaluate, None, None)


def gradient_score(params, *, loss_fn):
    return jax.tree.map(lambda w, g: jnp.abs(w * g), params, jax.grad(loss_fn)(params))


class FourRounds:
    """As the engine knows a score in rounds: by this number."""

    rounds = 4

    def __call__(self, params, **keywords):
        return gradient_score(params, loss_fn=keywords["loss_fn"])


def everything(params, **keywords):
    assert set(keywords) == {"initial_params", "loss_fn", "key", "model", "batches"}
    drawn = SCORES["random"](params, key=keywords["key"])
    moved = jax.tree.map(lambda w, w0: jnp.abs(w - w0), params, keywords["initial_params"])
    return jax.tree.map(lambda r, m: r * m, drawn, moved)


def setup(score="magnitude", mode="map", rows=2, **settings):
    config = Config(
        seeds="0:3", criterion=score, replicates=mode, rows_per_program=rows, batch_size=16,
        score_examples=24, **settings,
    )  # fmt: skip
    return build(config, TASK, EXAMPLES, range(3), epochs=1, rows=3)


def networks(some, numbers=(0, 1, 2)):
    found = []
    for number in numbers:
        start = some.initialize(number)
        noise = np.random.default_rng(number)
        trained = jax.tree.map(
            lambda w, noise=noise: w + noise.normal(size=w.shape).astype(np.float32), start
        )
        mask = jax.tree.map(np.asarray, full_mask(start))
        found.append(Scored(number, trained, mask, start))
    return found


def on_the_host(some, network, level):
    """The same mask by the plain functions, one network at a time."""
    score = some.config.criterion
    score = SCORES[score] if isinstance(score, str) else score
    drawn = balanced(EXAMPLES, network.seed, some.config.score_examples)
    batches = [
        gather(jax.tree.map(jnp.asarray, dict(bucket)), indices)
        for bucket, indices in zip(EXAMPLES.buckets, drawn, strict=True)
    ]
    random_key = key(network.seed, "random scores")
    given = {
        "initial_params": network.initial_params,
        "loss_fn": loss_over(recipe_of(TASK), batches, random_key),
        "key": random_key,
        "model": None,
        "batches": batches,
    }
    names = inspect.signature(score).parameters
    if not any(one.kind is one.VAR_KEYWORD for one in names.values()):
        given = {name: value for name, value in given.items() if name in names}
    mask, rounds = network.mask, getattr(score, "rounds", 1)
    for number in range(1, rounds + 1):
        share = 1 - (1 - level.target_sparsity) ** (number / rounds)
        last = number == rounds
        mask = prune(
            score(apply_mask(network.params, mask), **given),
            mask,
            sparsity=level.target_sparsity if last else share,
            scope=some.config.scope,
        )
    return mask


@pytest.mark.parametrize("scope", ["global", pytest.param("tensor", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "score",
    ["magnitude", "magnitude_increase", "random", gradient_score, FourRounds(), everything],
    ids=lambda score: score if isinstance(score, str) else getattr(score, "__name__", "rounds"),
)
def test_masks_of_all_rows_are_those_of_the_host_one_by_one(score, scope):
    some = setup(score, scope=scope)
    rows, prune_rows = networks(some), Pruner(some)
    found = [prune_rows(rows, level) for level in LEVELS]
    for level, of_level in zip(LEVELS, found, strict=True):
        for network, mask in zip(rows, of_level, strict=True):
            jax.tree.map(np.testing.assert_array_equal, mask, on_the_host(some, network, level))
    # Levels nest, for every score, when a mask goes on from the one before.
    again = prune_rows(
        [row._replace(mask=mask) for row, mask in zip(rows, found[0], strict=True)], LEVELS[1]
    )
    for less, more in zip(again, found[0], strict=True):
        for one, two in zip(*map(jax.tree.leaves, (less, more)), strict=True):
            assert not (one & ~two).any()


@pytest.mark.parametrize("mode", ["map", pytest.param("vmap", marks=pytest.mark.slow)])
def test_a_mask_does_not_depend_on_the_rows_beside_it(mode):
    some = setup(gradient_score, mode)
    rows = networks(some)
    together = Pruner(some)(rows, LEVELS[1])
    for row, mask in zip(rows, together, strict=True):
        (alone,) = Pruner(some)([row], LEVELS[1])
        jax.tree.map(np.testing.assert_array_equal, mask, alone)
    other = Pruner(some)([rows[2], rows[0], rows[1]], LEVELS[1])
    jax.tree.map(np.testing.assert_array_equal, other, [together[2], together[0], together[1]])


def test_all_rows_and_levels_share_one_program():
    traced = []

    def counted(params):
        traced.append(1)
        return jax.tree.map(jnp.abs, params)

    some = setup(counted)
    prune_rows, rows = Pruner(some), networks(some)
    for level in (*LEVELS, *from_rate(0.3, 2)):
        prune_rows(rows, level)
    assert len(traced) == 1


def test_what_a_rate_keeps_is_counted_as_the_host_does():
    mask = jax.tree.map(np.asarray, full_mask(init(jax.random.key(0))))
    rng = np.random.default_rng(1)
    for level in from_rate(0.2, 4):
        scores = jax.tree.map(lambda leaf: jnp.asarray(rng.random(np.shape(leaf))), mask)
        (counted,) = kept_counts(mask, level, scope="global", schedule="iterative")
        mask = next_mask(scores, mask, level, scope="global", schedule="iterative")
        mask = jax.tree.map(np.asarray, mask)
        assert counted.tolist() == [count_kept(mask)]


def test_examples_for_scores_are_balanced_and_of_the_seeds_own_training_split():
    for seed in range(3):
        drawn = balanced(EXAMPLES, seed, 40)
        assert [len(part) for part in drawn] == [16, 24]  # 60 and 90 of 150, for every seed
        labels = np.concatenate(
            [b["labels"][part] for b, part in zip(EXAMPLES.buckets, drawn, strict=True)]
        )
        assert np.bincount(labels).tolist() == [20, 20]  # though there are twice as many zeros
        for part, members in zip(drawn, EXAMPLES.draw(seed)["train"], strict=True):
            assert set(part) <= set(members)
            assert len(set(part)) == len(part)
    assert (balanced(EXAMPLES, 0, 40)[1] != balanced(EXAMPLES, 1, 40)[1]).any()
    everything_there = balanced(EXAMPLES, 0, 10**6)
    for part, members in zip(everything_there, EXAMPLES.draw(0)["train"], strict=True):
        assert sorted(part) == sorted(members)


def test_the_loss_is_the_mean_over_all_batches():
    batches = [
        {**jax.tree.map(jnp.asarray, dict(bucket)), "weight": jnp.ones(len(bucket["labels"]))}
        for bucket in EXAMPLES.buckets
    ]
    params = init(jax.random.key(0))
    losses = np.concatenate([per_example(params, batch) for batch in batches])
    found = loss_over(recipe_of(TASK), batches, jax.random.key(0))(params)
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-5)
    noisy = lth.Task(init, mean_loss, lambda params, batch: {"mse": per_example(params, batch)})
    found = loss_over(recipe_of(noisy), batches, jax.random.key(0))(params)
    np.testing.assert_allclose(found, losses.mean(), rtol=1e-5)


def test_only_scores_that_name_data_read_it():
    needs = {"magnitude": 0, "magnitude_init": 0, "random": 0, "snip": 2, "inverted_snip": 2}
    for score, steps in needs.items():  # 24 examples in batches of 16
        assert Pruner(setup(score)).cost.steps == steps
    assert Pruner(setup(InRounds(snip, 5))).cost[:2] == (5, 2)
