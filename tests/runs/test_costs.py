"""What masks cost, in numbers by hand: a network of 128 weights, all of them prunable."""

import math

import numpy as np
import pytest
from test_search import arrays, mlp

from lth_flax.config import Config
from lth_flax.pruning.levels import from_sparsities
from lth_flax.pruning.scores import InRounds, inverted, magnitude, snip
from lth_flax.runs.costs import Costs, Scoring
from lth_flax.runs.masks import Pruner
from lth_flax.runs.methods import mask_rule
from lth_flax.runs.origin import Origin
from lth_flax.runs.setup import build


def setup(**settings):
    config = Config(batch_size=32, score_examples=64, **settings)
    return build(config, mlp(), arrays(), [0], epochs=3, rows=1)


@pytest.mark.parametrize(
    ("score", "cost"),
    [
        ("magnitude", (1, 0, 0)),
        ("random", (1, 0, 0)),
        ("snip", (1, 2, 2)),  # 64 examples in batches of 32
        ("grasp", (1, 6, 6)),  # a gradient, and a gradient with its derivative
        ("inverted_grasp", (1, 6, 6)),
        ("jacobian", (1, 2, 2)),
        ("synflow", (100, 1, 1 / 32)),  # one input in place of 32
        (InRounds(inverted(snip), 20), (20, 2, 2)),
        (lambda params, *, loss_fn: magnitude(params), (1, 2, 2)),
        (lambda params, *, key: magnitude(params), (1, 0, 0)),
    ],
)
def test_what_a_score_costs_besides_training(score, cost):
    assert Pruner(setup(criterion=score)).cost == cost


def test_rounds_of_scores_cost_what_their_masks_keep():
    made = setup(schedule="oneshot")
    costs = Costs(made, made.config, Origin(0, 0), from_sparsities([0.5, 0.75]))
    steps, dense = costs.of_scores(1, Scoring(100, 1, 1 / 32))
    series = (1 - 0.25) / (1 - 0.25 ** (1 / 100))  # of the densities 0.25^(k / 100), k below 100
    assert steps == 100
    assert dense == pytest.approx(series / 32)


def test_level_after_level_every_round_scores_what_is_left():
    made = setup()
    levels = from_sparsities([0.5, 0.75])
    costs = Costs(made, made.config, Origin(None, 0), levels)
    steps, dense = costs.of_scores(1, Scoring(2, 2, 2.0))
    # 15 steps dense and 15 at half; two rounds on the way to a half, two on that to a quarter, of
    # which the first must not keep more than the half that there is.
    assert steps == 2 * 15 + 4 * 2
    assert dense == pytest.approx(15 * 1.5 + 2 * (1 + math.sqrt(0.5) + 0.5 + 0.5))


@pytest.mark.parametrize(("method", "expected"), [("rigl", 15 / 2 + 1 / 3), ("set", 15 / 2)])
def test_rigl_pays_for_the_gradient_of_all_weights(method, expected):
    config = Config(method=method, mask_every=4, mask_end=0.75)
    found = mask_rule(config, from_sparsities([0.5]), 15, 5).sparsities(0.5, 15)
    # Changes at 4 and 8, before step 11. A dense step is three products, of which a sparse one
    # does half; RigL does one of them whole in two steps: two times a half of a third more.
    assert 15 * (1 - np.mean(found)) == pytest.approx(expected)
