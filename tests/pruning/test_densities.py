"""Random sparse masks: exact totals, and the densities of the papers."""

import jax
import numpy as np
import pytest

from lth_flax.errors import UserError
from lth_flax.pruning.densities import random_mask, weights_per_tensor


def test_erdos_renyi_against_numbers_by_hand():
    # Of [n_in, n_out] with (n_in + n_out) / (n_in n_out): the number kept is proportional to
    # n_in + n_out. 100 of 500 over 20 : 50 are 28.57 and 71.43.
    assert weights_per_tensor([(10, 10), (10, 40)], sparsity=0.8).tolist() == [29, 71]
    # 12 and 13 share 20: 9.6 of 20 and 10.4 of 30; the larger remainder gets the last one.
    assert weights_per_tensor([(2, 10), (3, 10)], sparsity=0.6).tolist() == [10, 10]
    # A small tensor that would need more than it has is full: 4 of 4, the rest 50 : 50.
    shapes = [(2, 2), (20, 30), (30, 20)]
    assert weights_per_tensor(shapes, sparsity=1 - 104 / 1204).tolist() == [4, 50, 50]
    # Without room left everything is full.
    assert weights_per_tensor(shapes, sparsity=0).tolist() == [4, 600, 600]
    assert weights_per_tensor(shapes, sparsity=1).tolist() == [0, 0, 0]
    # Four dimensions: the sum and the product of all (ERK). 3+3+2+4=12 and 20: 12 of 32 and 20.
    four = weights_per_tensor([(3, 3, 2, 4), (10, 10)], sparsity=1 - 32 / 172)
    assert four.tolist() == [12, 20]


def test_uniform_densities_are_equal():
    kept = weights_per_tensor([(10, 10), (10, 40)], sparsity=0.9, distribution="uniform")
    assert kept.tolist() == [10, 40]


@pytest.mark.parametrize("distribution", ["uniform", "erdos_renyi"])
@pytest.mark.parametrize("sparsity", [0.0, 0.33, 0.9, 0.985, 1.0])
def test_a_random_mask_is_exactly_as_sparse_as_asked(distribution, sparsity):
    full = {"a": np.ones((7, 11), bool), "b": np.array(True), "c": np.ones((23, 5), bool)}
    masks = [
        random_mask(full, sparsity=sparsity, key=jax.random.key(seed), distribution=distribution)
        for seed in (0, 1)
    ]
    for mask in masks:
        assert mask["b"].ndim == 0
        total = 7 * 11 + 23 * 5
        assert int(mask["a"].sum() + mask["c"].sum()) == total - round(sparsity * total)
    if 0 < sparsity < 1:
        assert (np.asarray(masks[0]["c"]) != np.asarray(masks[1]["c"])).any()


def test_what_cannot_be_is_one_line():
    with pytest.raises(UserError, match=r"sparsity must be in \[0, 1\], found 1.5"):
        weights_per_tensor([(2, 2)], sparsity=1.5)
    with pytest.raises(UserError, match="one of uniform, erdos_renyi; found 'dense'"):
        weights_per_tensor([(2, 2)], sparsity=0.5, distribution="dense")
