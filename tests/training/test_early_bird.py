"""Early-Bird: what is drawn, how far masks are apart, when one has emerged."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lth_flax.errors import UserError
from lth_flax.pruning.densities import random_mask
from lth_flax.pruning.masks import full_mask
from lth_flax.pruning.scores import magnitude
from lth_flax.pruning.select import prune
from lth_flax.training.early_bird import distance, draw_steps, early_bird, emergence
from lth_flax.training.mask_state import current_mask

LEVELS = (0.5, 0.9)
RNG = np.random.default_rng(0)
PARAMS = {
    "first": jnp.asarray(RNG.normal(size=(8, 15)), jnp.float32),
    "bias": jnp.zeros(15),
    "second": jnp.asarray(RNG.normal(size=(15, 4)), jnp.float32),
}
TOTAL = 8 * 15 + 15 * 4
COUNTS = [[TOTAL - round(level * TOTAL)] for level in LEVELS]
X = jnp.asarray(RNG.normal(size=(32, 8)), jnp.float32)
Y = jnp.asarray(RNG.normal(size=(32, 4)), jnp.float32)


def loss(params):
    return jnp.mean((jnp.tanh(X @ params["first"] + params["bias"]) @ params["second"] - Y) ** 2)


def train(rate, steps, draws, **options):
    """The parameters after each step, and the state in the end."""
    transformation = early_bird(
        optax.adam(rate), full_mask(PARAMS), counts=COUNTS, draws=draws, **options
    )

    @jax.jit
    def step(params, state):
        updates, state = transformation.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params, state, history = PARAMS, transformation.init(PARAMS), [PARAMS]
    for _ in range(steps):
        params, state = step(params, state)
        history.append(params)
    return history, jax.device_get(state)


def flat(mask):
    return np.concatenate([np.ravel(mask["first"]), np.ravel(mask["second"])])


def drawn(params, level):
    return flat(prune(magnitude(params), full_mask(params), sparsity=LEVELS[level]))


@pytest.mark.parametrize("sparsity", [0.3, 0.9, 0.98])
def test_two_random_masks_are_at_distance_1_within_the_standard_error(sparsity):
    full = {"w": np.ones((50, 40), bool), "b": np.array(True)}
    total, found = 2000, []
    kept = total - round(sparsity * total)
    masks = [random_mask(full, sparsity=sparsity, key=jax.random.key(n)) for n in range(40)]
    for one, two in zip(masks[::2], masks[1::2], strict=True):
        share, corrected = distance(one, two, kept, total)
        assert float(share) == pytest.approx((flat_w(one) != flat_w(two)).mean())
        found.append(float(corrected))
    error = np.std(found, ddof=1) / np.sqrt(len(found))
    assert abs(np.mean(found) - 1) < 3 * error
    assert 0 < error < 0.1
    # The raw distance would call these masks the same at 98%: 2 rho (1 - rho) is 0.04.
    assert distance(masks[0], masks[0], kept, total)[1] == 0


def flat_w(mask):
    return np.ravel(mask["w"])


@pytest.mark.slow
def test_draws_and_distances_are_those_of_a_loop_that_keeps_every_mask():
    draws = [3, 5, 8, 11, 13, 16, 18]
    history, state = train(0.1, 20, draws, threshold=0.5, keep_start=True)
    assert all(leaf.all() for leaf in jax.tree.leaves(current_mask(state)))  # dense all along
    for level in (0, 1):
        masks = [drawn(history[step], level) for step in draws]
        density = masks[0].mean()
        emerged = None
        for number, mask in enumerate(masks):
            raw, corrected = state.distances[number, level]
            if number < 4:
                assert np.isnan(raw)
                assert np.isnan(corrected)
                continue
            largest = max((mask != masks[number - older]).mean() for older in (1, 2, 3, 4))
            np.testing.assert_allclose(raw, largest, rtol=1e-6)
            np.testing.assert_allclose(
                corrected, largest / (2 * density * (1 - density)), rtol=1e-5
            )
            if emerged is None and corrected <= 0.5:
                emerged = number
        found, said = emergence(state, level)
        assert said["emerged"] == (emerged is not None)
        assert said["step"] == (None if emerged is None else draws[emerged])
        assert len(said["corrected"]) == len(said["distances"]) == len(draws) - 4
        at = len(draws) - 1 if emerged is None else emerged
        np.testing.assert_array_equal(flat(found), masks[at])
        np.testing.assert_array_equal(state.began[0]["first"][level], history[draws[at]]["first"])


def test_a_network_that_does_not_move_has_its_ticket_at_the_fifth_draw():
    _, state = train(0.0, 12, [1, 2, 4, 6, 9, 12])
    for level in (0, 1):
        mask, said = emergence(state, level)
        assert said == {"emerged": True, "step": 9, "distances": [0, 0], "corrected": [0, 0]}
        np.testing.assert_array_equal(flat(mask), drawn(PARAMS, level))


@pytest.mark.slow
def test_one_that_never_emerges_takes_its_last_mask_and_says_so():
    history, state = train(0.5, 12, [2, 4, 6, 8, 10, 12], threshold=0.0)
    mask, said = emergence(state, 1)
    assert not said["emerged"]
    assert said["step"] is None
    np.testing.assert_array_equal(flat(mask), drawn(history[12], 1))


def test_a_draw_every_quarter_of_an_epoch():
    assert draw_steps(8, 2, 4) == [2, 4, 6, 8, 10, 12, 14, 16]
    assert draw_steps(10, 1, 4) == [3, 5, 8, 10]
    assert draw_steps(3, 2, 4) == [1, 2, 3, 4, 5, 6]  # a step has one draw at most


def test_draws_that_cannot_be_are_one_line():
    for draws in ([], [0, 1], [3, 2]):
        with pytest.raises(UserError, match="increasing steps from 1"):
            early_bird(optax.adam(0.1), full_mask(PARAMS), counts=COUNTS, draws=draws)
