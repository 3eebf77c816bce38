"""Scores before training, each against what it means: differences, hand-made answers, laws."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lth_flax.errors import UserError
from lth_flax.models import knowledge
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import apply_mask, count_prunable, full_mask, sparsity
from lth_flax.pruning.scores import (
    SCORES,
    InRounds,
    grasp,
    inverted,
    jacobian,
    magnitude,
    magnitude_init,
    prune_in_rounds,
    snip,
    synflow,
)
from lth_flax.pruning.select import prune
from lth_flax.tasks import ModelInfo
from lth_flax.training.classification import cross_entropy

MODEL = BiLSTMClassifier(11, 4, 3, 2, 2)
INFO = ModelInfo(
    settings={},
    words="a small one",
    gates=knowledge.gates,
    tempered=knowledge.tempered,
    linearized=knowledge.linearized,
    jacobian=knowledge.squared_jacobian,
)
BATCH = {
    "tokens": jnp.asarray(np.random.default_rng(1).integers(1, 11, (4, 6)), jnp.int32),
    "lengths": jnp.array([6, 3, 1, 5], jnp.int32),
    "labels": jnp.array([0, 1, 1, 0]),
    "weight": jnp.ones(4),
}


def network(seed=0, model=MODEL):
    tokens, lengths = jnp.zeros((1, 1), jnp.int32), jnp.ones(1, jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), tokens, lengths)["params"]
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.7, s.shape), s.dtype), shapes)


def loss_of(model):
    def loss_fn(params):
        logits = model.apply({"params": params}, BATCH["tokens"], BATCH["lengths"])
        return jnp.mean(cross_entropy(logits, BATCH["labels"]))

    return loss_fn


loss_fn = loss_of(MODEL)


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def moved(params, path, index, value):
    """The parameters with one weight at another value."""
    changed = jax.tree.map(jnp.asarray, params)
    inner = at(changed, path[:-1])
    inner[path[-1]] = inner[path[-1]].at[index].set(value)
    return changed


PLACES = [
    (("lstm_0", "forward", "input_kernel"), (1, 2)),
    (("lstm_0", "backward", "recurrent_kernel"), (2, 8)),
    (("lstm_1", "forward", "recurrent_kernel"), (0, 4)),
    (("head", "kernel"), (5, 1)),
]


def test_snip_is_the_change_of_the_loss_when_a_weight_is_scaled_away():
    params = network()
    scores, loss = jax.jit(lambda p: snip(p, loss_fn=loss_fn))(params), jax.jit(loss_fn)
    for path, index in PLACES:
        weight = float(at(params, path)[index])
        step = 2e-2  # of the weight: the loss is a float32
        more, less = (
            float(loss(moved(params, path, index, weight * (1 + s)))) for s in (step, -step)
        )
        found = float(at(scores, path)[index])
        np.testing.assert_allclose(found, abs(more - less) / (2 * step), rtol=0.02, atol=2e-6)


def test_grasp_keeps_what_the_gradient_needs_on_a_quadratic():
    # L = (2 x^2 + y^2 + z^2) / 2 + x y: g = (2x + y, x + y, z) = (0, -1, 1) at (1, -2, 1), and
    # H g = (-1, -1, 1). Removing x changes |g|^2 by -2 x (Hg)_x = +2, y by -4, z by -2 (to first
    # order; exactly: |g|^2 without x is 8, without z it is 1). So x goes first, y stays longest.
    def loss(p):
        x, y, z = p["w"][0]
        return 0.5 * (2 * x * x + y * y + z * z) + x * y

    params = {"w": jnp.array([[1.0, -2.0, 1.0]])}
    scores = grasp(params, loss_fn=loss)
    np.testing.assert_allclose(scores["w"], [[-1.0, 2.0, 1.0]], rtol=1e-6)
    mask = prune(scores, full_mask(params), sparsity=1 / 3)
    assert mask["w"].tolist() == [[False, True, True]]
    mask = prune(scores, mask, sparsity=2 / 3)
    assert mask["w"].tolist() == [[False, True, False]]


def test_grasp_of_the_lstm_is_the_change_of_the_gradient_norm():
    # Second derivatives through the hand-written gradient, against differences of the first.
    params = network()
    scores = jax.jit(lambda p: grasp(p, loss_fn=loss_fn, model=INFO))(params)

    @jax.jit
    def norm(params):
        gradient = jax.grad(lambda p: loss_fn(knowledge.tempered(p, 200.0)))(params)
        return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(gradient))

    for path, index in PLACES:
        weight, step = float(at(params, path)[index]), 5e-2
        more, less = (
            float(norm(moved(params, path, index, weight * (1 + s)))) for s in (step, -step)
        )
        change = (more - less) / (2 * step)  # of |g|^2, which is 2 w (H g)
        np.testing.assert_allclose(2 * at(scores, path)[index], change, rtol=0.05, atol=3e-8)


def cuts(tree):
    """Sums over what every path passes once: the input kernels of a layer, and the head."""
    layers = [name for name in tree if name.startswith("lstm_")]
    return [
        *(
            sum(jnp.sum(tree[n][d]["input_kernel"]) for d in ("forward", "backward"))
            for n in layers
        ),
        jnp.sum(tree["head"]["kernel"]),
    ]


def test_the_cuts_of_synflow_each_add_up_to_the_output():
    params = network()
    found = cuts(synflow(params, model=INFO))
    expected = knowledge.linearized(jax.tree.map(jnp.abs, params))
    np.testing.assert_allclose(found, [expected] * 3, rtol=1e-5)
    # Recurrent kernels are no cut: a path may pass them several times.
    scores = synflow(params, model=INFO)["lstm_0"]
    again = sum(jnp.sum(scores[d]["recurrent_kernel"]) for d in ("forward", "backward"))
    assert abs(again / expected - 1) > 0.05


@pytest.mark.slow
def test_synflow_in_rounds_empties_no_cut_where_one_shot_does():
    # A head of few weights, each of which much flow passes; the law of the paper.
    model = BiLSTMClassifier(11, 12, 4, 3, 2)
    params = network(model=model)
    # A layer whose weights are small: by one ranking it would go first.
    params["lstm_1"] = jax.tree.map(lambda leaf: 0.01 * leaf, params["lstm_1"])
    full = full_mask(params)
    largest = max(
        sum(np.size(params[f"lstm_{n}"][d]["input_kernel"]) for d in ("forward", "backward"))
        for n in range(3)
    )
    step = jax.jit(lambda p: synflow(p, model=INFO))
    target = 1 - (largest + 1) / count_prunable(full)

    def emptied(score):
        mask = prune_in_rounds(score, params, full, sparsity=target)
        assert sparsity(mask) == pytest.approx(target, abs=1e-3)
        return min(int(amount) for amount in cuts(mask)) == 0

    assert not emptied(InRounds(lambda p, **_: step(p), 60))
    assert emptied(magnitude)


def test_rounds_keep_the_same_share_each_and_see_the_mask_of_the_round_before():
    params = {"w": jnp.arange(1.0, 1001.0).reshape(10, 100)}
    seen = []

    def score(params):
        seen.append(int(jnp.count_nonzero(params["w"])))
        return params

    mask = prune_in_rounds(InRounds(score, 3), params, full_mask(params), sparsity=0.9)
    assert seen == [1000, round(1000 * 0.1 ** (1 / 3)), round(1000 * 0.1 ** (2 / 3))]
    assert int(mask["w"].sum()) == 100
    assert mask["w"][9].all()
    for target in (0.0, 1.0):
        found = prune_in_rounds(InRounds(score, 3), params, full_mask(params), sparsity=target)
        assert sparsity(found) == target
    with pytest.raises(UserError, match="rounds from 1"):
        InRounds(score, 0)
    with pytest.raises(UserError, match="sparsity must be"):
        prune_in_rounds(score, params, full_mask(params), sparsity=1.5)


@pytest.mark.slow
def test_scores_of_the_jacobian_are_even_over_gates_and_the_head_follows():
    params = network()
    found = jax.jit(
        lambda p: jacobian(p, key=jax.random.key(2), model=INFO, batches=[BATCH, BATCH])
    )(params)
    for layer in ("lstm_0", "lstm_1"):
        for direction in ("forward", "backward"):
            for name in ("input_kernel", "recurrent_kernel"):
                parts = np.split(np.asarray(found[layer][direction][name]), 4, axis=1)
                np.testing.assert_allclose([part.mean() for part in parts], 1.0, rtol=1e-4)
    # Within a gate: |w dchi/dw| up to its mean.
    total = jax.jit(
        lambda p: sum(
            knowledge.squared_jacobian(p, BATCH, jax.random.fold_in(jax.random.key(2), n))
            for n in range(2)
        )
    )
    path, weight = (
        ("lstm_1", "forward", "input_kernel"),
        params["lstm_1"]["forward"]["input_kernel"],
    )
    raw = []
    for index in ((0, 6), (3, 8)):
        value, step = float(weight[index]), 2e-2
        more, less = (
            float(total(moved(params, path, index, value * (1 + s)))) for s in (step, -step)
        )
        raw.append(abs(more - less))
    scores = found["lstm_1"]["forward"]["input_kernel"]
    np.testing.assert_allclose(scores[0, 6] / scores[3, 8], raw[0] / raw[1], rtol=0.1)
    mask = prune(found, full_mask(params), sparsity=0.5)
    head = np.asarray(mask["head"]["kernel"])
    assert abs(int(head.sum()) - head.size / 2) <= 1
    assert (
        np.abs(params["head"]["kernel"])[head].min() > np.abs(params["head"]["kernel"])[~head].max()
    )


@pytest.mark.parametrize(
    "name",
    ["snip", *(pytest.param(n, marks=pytest.mark.slow) for n in ("grasp", "synflow", "jacobian"))],
)
@pytest.mark.slow
def test_scores_are_the_same_for_a_row_of_a_table(name):
    shallow = BiLSTMClassifier(11, 4, 3, 1, 2)
    keywords = {"loss_fn": loss_of(shallow), "model": INFO, "batches": [BATCH]}

    def masked(params, key):
        return SCORES[name](params, key=key, **keywords)

    rows = [network(seed, shallow) for seed in (0, 1)]
    keys = jax.random.split(jax.random.key(3), 2)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
    one = [jax.jit(masked)(row, key) for row, key in zip(rows, keys, strict=True)]
    one_by_one = lambda *rows: jax.lax.map(lambda row: masked(*row), rows)  # noqa: E731
    for lifted in (jax.vmap(masked), *([one_by_one] if name == "snip" else [])):
        found = jax.jit(lifted)(stacked, keys)
        for row in range(2):
            pairs = zip(jax.tree.leaves(found), jax.tree.leaves(one[row]), strict=True)
            for ours, alone in pairs:
                np.testing.assert_allclose(ours[row], alone, rtol=2e-3, atol=1e-5)


def test_inverted_scores_prune_the_other_end():
    params = {"w": jnp.array([[3.0, 1.0, 2.0, 4.0]])}
    found = prune(inverted(magnitude)(params), full_mask(params), sparsity=0.5)
    assert found["w"].tolist() == [[False, True, True, False]]
    rounds = inverted(InRounds(magnitude, 5))
    assert isinstance(rounds, InRounds)
    assert rounds.rounds == 5
    found = prune_in_rounds(rounds, params, full_mask(params), sparsity=0.75)
    assert found["w"].tolist() == [[False, True, False, False]]


def test_magnitudes_at_initialization_leave_every_tensor_its_share():
    rng = np.random.default_rng(0)
    # As drawn: one tensor has twice the entries of the other, and longer tails.
    params = {"a": rng.normal(0, 2, (20, 10)), "b": rng.uniform(-1, 1, (10, 10))}
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), params)
    trained = jax.tree.map(jnp.ones_like, params)
    for given in ((params, None), (trained, params)):
        scores = magnitude_init(given[0], initial_params=given[1])
        mask = prune(scores, full_mask(params), sparsity=0.9)
        assert [int(mask[name].sum()) for name in "ab"] == [20, 10]
        for name in "ab":
            size, kept = np.abs(params[name]), np.asarray(mask[name])
            assert size[kept].min() > size[~kept].max()


def test_a_score_names_what_it_needs_and_takes_the_rest():
    needs = {
        "magnitude": set(),
        "magnitude_init": {"initial_params"},
        "snip": {"loss_fn"},
        "grasp": {"loss_fn", "model"},
        "synflow": {"model"},
        "inverted_synflow": {"model"},
        "jacobian": {"initial_params", "key", "model", "batches"},
    }
    for name, expected in needs.items():
        parameters = inspect.signature(SCORES[name]).parameters.values()
        named = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        assert named == expected, name
    assert SCORES["synflow"].__name__ == "synflow_in_100_rounds"


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("snip", {}, "snip needs .* pass loss_fn"),
        ("grasp", {}, "grasp needs .* pass loss_fn"),
        ("synflow", {}, r"synflow needs to know the network.*linearized"),
        ("jacobian", {"key": 0, "batches": []}, r"needs to know the network.*jacobian="),
        ("jacobian", {"model": INFO}, "jacobian needs .* pass batches"),
        ("random", {}, "pass key"),
    ],
)
def test_what_a_score_lacks_is_one_line(name, given, words):
    with pytest.raises(UserError, match=words) as error:
        SCORES[name]({"w": jnp.ones((2, 2))}, **given)
    assert "\n" not in str(error.value)


def test_pruned_weights_have_no_score():
    params = network()
    mask = prune(magnitude(params), full_mask(params), sparsity=0.5)
    masked = apply_mask(params, mask)
    scores = jax.jit(lambda p: (snip(p, loss_fn=loss_fn), synflow(p, model=INFO)))(masked)
    for score in scores:
        for leaf, kept in zip(jax.tree.leaves(score), jax.tree.leaves(mask), strict=True):
            if kept.ndim:
                assert not np.asarray(leaf)[~np.asarray(kept)].any()
