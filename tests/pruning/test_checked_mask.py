"""Masks from elsewhere: zeros and ones of any kind are taken, anything else is one line."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.core import freeze

from lth_flax.errors import UserError
from lth_flax.pruning.connectivity import is_connected
from lth_flax.pruning.masks import (
    PRUNABLE,
    apply_mask,
    checked_mask,
    density,
    full_mask,
    permute_within_tensors,
    prunable_by_default,
    sparsity,
    total_sparsity,
)
from lth_flax.pruning.select import prune
from lth_flax.training.optimizers import keep_pruned

PARAMS = {
    "head": {"kernel": np.arange(1.0, 7.0, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)}
}
KERNEL = np.array([[True, False, True], [False, True, True]])
MASK = {"head": {"kernel": KERNEL, "bias": np.array(True)}}

WITH_PARAMS = {
    "apply_mask": lambda mask: apply_mask(PARAMS, mask),
    "prune": lambda mask: prune(PARAMS, mask, fraction=0.5),
    "threshold": lambda mask: prune(PARAMS, mask, threshold=3.0),
    "keep_pruned": lambda mask: keep_pruned(optax.sgd(0.1), mask).init(PARAMS),
    "total_sparsity": lambda mask: total_sparsity(PARAMS, mask),
}
ALONE = {
    "sparsity": sparsity,
    "density": density,
    "permute": lambda mask: permute_within_tensors(mask, jax.random.key(0)),
}
EVERYWHERE = {**WITH_PARAMS, **ALONE}


def with_kernel(kernel):
    return {"head": {"kernel": kernel, "bias": np.array(True)}}


@pytest.mark.parametrize("use", EVERYWHERE.values(), ids=EVERYWHERE)
@pytest.mark.parametrize(
    ("kernel", "found"),
    [
        (KERNEL * 2, "found 2"),
        (KERNEL * -1.0, "found -1.0"),
        (KERNEL * np.nan, "found nan"),
        (KERNEL * 0.5, "found 0.5"),
        (jnp.asarray(KERNEL * 3, jnp.bfloat16), "found 3"),
        (KERNEL * 1j, "found 1j"),
        (np.array([["x"] * 3] * 2), "found ndarray"),
        ("xyz", "found str"),
        (len, "found builtin_function_or_method"),
    ],
)
def test_other_values_are_one_line_that_names_the_leaf(use, kernel, found):
    with pytest.raises(
        UserError, match=f"the mask of head/kernel must hold zeros and ones, {found}"
    ):
        use(with_kernel(kernel))


@pytest.mark.parametrize("use", EVERYWHERE.values(), ids=EVERYWHERE)
def test_a_single_false_is_no_mask(use):
    with pytest.raises(UserError, match="the mask of head/kernel is a single False"):
        use(with_kernel(np.array(False)))


@pytest.mark.parametrize("use", WITH_PARAMS.values(), ids=WITH_PARAMS)
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (with_kernel(KERNEL[0]), r"head/kernel has the shape \(\d.*, expected"),
        (with_kernel(KERNEL.T), r"head/kernel has the shape \(\d, \d\), expected"),
        (with_kernel(KERNEL[None]), r"head/kernel has the shape"),
        ({"head": {"kernel": KERNEL}}, "head/bias"),
        ({"head": {"kernel": KERNEL, "bias": None}}, "head/bias"),
        ({**MASK, "other": {"kernel": KERNEL}}, "other/kernel"),
        ({"body": MASK["head"]}, "(head|body)/bias"),
        (None, "head/bias"),
        (KERNEL, "head/bias|the only parameter"),
    ],
)
def test_another_shape_or_tree_is_one_line_that_names_the_leaf(use, mask, message):
    with pytest.raises(UserError, match=message) as error:
        use(mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "kind",
    [np.int8, np.uint32, np.int64, np.float16, np.float32, np.float64, jnp.bfloat16, jnp.int32],
)
def test_zeros_and_ones_of_any_kind_are_taken(kind):
    mask = {"head": {"kernel": KERNEL.astype(kind), "bias": np.array(1).astype(kind)}}
    checked = checked_mask(mask, PARAMS)
    assert {leaf.dtype for leaf in jax.tree.leaves(checked)} == {np.dtype(bool)}
    np.testing.assert_array_equal(
        apply_mask(PARAMS, mask)["head"]["kernel"], [[1, 0, 3], [0, 5, 6]]
    )
    assert sparsity(mask) == pytest.approx(1 / 3)
    assert density(mask) == {"head/kernel": pytest.approx(2 / 3)}
    # Half of the four survivors go: 1 and 3.
    after = prune(PARAMS, mask, fraction=0.5)["head"]
    np.testing.assert_array_equal(after["kernel"], [[False, False, False], [False, True, True]])
    assert after["kernel"].dtype == after["bias"].dtype == bool
    under_jit = jax.jit(lambda mask: prune(PARAMS, mask, fraction=0.5))(mask)["head"]
    np.testing.assert_array_equal(under_jit["kernel"], after["kernel"])


def test_plain_lists_and_python_numbers():
    params = [np.ones((1, 2)), np.ones(2)]
    mask = [np.array([[1, 0]]), True]
    np.testing.assert_array_equal(apply_mask(params, mask)[0], [[1, 0]])
    assert sparsity(mask) == 0.5


def test_a_traced_mask_is_checked_for_shape_alone():
    assert jax.jit(apply_mask)(PARAMS, with_kernel(KERNEL * 7))["head"]["kernel"][0, 0] == 1
    with pytest.raises(UserError, match="head/kernel has the shape"):
        jax.jit(apply_mask)(PARAMS, with_kernel(KERNEL.T))


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Head:
    kernel: jax.Array
    bias: jax.Array


def test_a_mask_fits_where_the_paths_do_whatever_the_containers():
    frozen = freeze(PARAMS)
    masked = apply_mask(frozen, MASK)
    assert type(masked) is type(frozen)
    np.testing.assert_array_equal(masked["head"]["kernel"], [[1, 0, 3], [0, 5, 6]])
    data = {"head": Head(**PARAMS["head"])}
    np.testing.assert_array_equal(apply_mask(data, MASK)["head"].kernel, [[1, 0, 3], [0, 5, 6]])
    pair = apply_mask((PARAMS["head"]["kernel"], None), [KERNEL, None])
    assert isinstance(pair, tuple)
    assert pair[1] is None


def test_connectivity_reads_masks_of_other_kinds_and_refuses_the_rest():
    def direction():
        return {
            "input_kernel": np.ones((2, 8)),
            "recurrent_kernel": np.ones((2, 8)),
            "bias": np.ones(8),
        }

    params = {
        "lstm_0": {"forward": direction(), "backward": direction()},
        "head": {"kernel": np.ones((4, 2)), "bias": np.ones(2)},
    }
    mask = jax.tree.map(np.asarray, full_mask(params))
    assert is_connected(params, jax.tree.map(lambda leaf: leaf.astype(np.float32), mask))
    mask["head"]["kernel"] = np.full((4, 2), 0.5)
    with pytest.raises(UserError, match="head/kernel"):
        is_connected(params, mask)


@pytest.mark.parametrize(
    ("path", "is_kernel"),
    [
        (("head", "kernel"), True),
        (("0",), True),
        ((), True),
        (("attention", "value", "kernel"), True),
        (("block", "value"), True),
        (("attention", "query", "bias"), False),  # [heads, features]
        (("lstm", "recurrent_bias"), False),
        (("layers", "norm", "scale"), False),  # nn.scan: [layers, features]
        (("embedding",), False),
        (("pos_embedding",), False),
        (("embedding", "kernel"), False),
        (("decoder", "token_embedding", "weight"), False),
        (("norm", "scale", "value"), False),  # Flax's nnx
        (("Dense", "Bias"), False),
        (("scale", "kernel"), True),
        (("bias_net", "kernel"), True),
    ],
)
def test_what_is_a_kernel(path, is_kernel):
    assert prunable_by_default(path, np.ones((2, 2))) is is_kernel
    assert not prunable_by_default(path, np.ones(2))


def test_rules_by_name_on_any_tree():
    for rule in PRUNABLE.values():
        assert rule((), np.ones((2, 2))) in (True, False)
    assert not PRUNABLE["head"](("head", "bias"), np.ones((2, 2)))
    assert PRUNABLE["lstm"](("lstm_0", "forward", "input_kernel"), np.ones((2, 2)))


def test_weight_decay_follows_the_same_rule():
    from lth_flax.training.optimizers import make_optimizer

    params = {"attention": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones((2, 2))}}
    optimizer = make_optimizer("adamw", weight_decay=0.5)(jnp.float32(0.1))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    assert np.asarray(updates["attention"]["kernel"]).all()
    assert not np.asarray(updates["attention"]["bias"]).any()
