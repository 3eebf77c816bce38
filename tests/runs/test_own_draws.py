"""What is drawn for a seed is its own: networks, their reinitializations, dropout."""

import itertools
from types import SimpleNamespace

import jax
import numpy as np

from lth_flax.runs.setup import Initializer
from lth_flax.training.loop import _fixed
from lth_flax.training.table import Replicate, Start

TASK = SimpleNamespace(init=lambda key: {"w": jax.random.normal(key, (4,))}, start=None)
NAMES = list(itertools.product((0, 1, 2), (None, 0, 1, 2)))


def test_every_seed_and_every_draw_is_a_network_of_its_own():
    initialize = Initializer(TASK)
    drawn = {name: initialize(*name)["w"] for name in NAMES}
    assert len({weights.tobytes() for weights in drawn.values()}) == len(NAMES)
    again = Initializer(TASK)  # in another order the same
    for name in reversed(NAMES):
        np.testing.assert_array_equal(again(*name)["w"], drawn[name])


def test_the_rows_of_a_seed_share_its_dropout_and_no_others():
    start = Start({"w": np.ones(2)}, {"w": np.ones(2, bool)})
    keys = [
        jax.random.key_data(_fixed(Replicate(lambda: start, seed, rate), start).key).tolist()
        for seed, rate in [(0, 0.1), (0, 0.2), (1, 0.1), (2, 0.1)]
    ]
    assert keys[0] == keys[1]
    assert len({tuple(key) for key in keys}) == 3
