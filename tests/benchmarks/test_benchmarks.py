"""The benchmarks measure what they say: same function, same work, right arithmetic."""

import itertools
import json

import jax
import numpy as np
import pytest

from lth_flax.benchmarks import growth, pruning, timing
from lth_flax.benchmarks.scaling import bytes_of_a_row
from lth_flax.benchmarks.shapes import TWEETS, Shape
from lth_flax.benchmarks.train_step import FlaxClassifier
from lth_flax.config import Config, settings_of
from lth_flax.models.classifier import BiLSTMClassifier


def test_ratios_are_taken_round_by_round():
    assert timing.ratios([2.0, 9.0, 4.0], [1.0, 3.0, 4.0]) == {
        "median": 2.0, "least": 1.0, "most": 3.0, "n": 3
    }  # fmt: skip


def test_an_exponent_is_the_power_of_the_size():
    assert growth.exponent({10: 5.0, 100: 5.0, 1000: 5.0}) == pytest.approx(0)
    assert growth.exponent({2: 12.0, 4: 48.0, 8: 192.0}) == pytest.approx(2)


def test_what_grows_is_a_setting_and_the_table_has_so_many_rows():
    for sizes in growth.PARTS.values():
        for settings in sizes.values():
            assert {*growth.TINY, *settings} <= set(settings_of(Config))
    for rows, settings in growth.PARTS["rows"].items():
        # A dense network, a ticket and the draws of its control.
        assert settings["num_seeds"] * (1 + 1 + settings["reinit_draws"]) == rows


def test_made_up_texts_are_as_many_and_as_long_as_asked_for(tmp_path):
    path = tmp_path / "texts.csv"
    growth.write_texts(path, 10_050)
    lines = path.read_text().splitlines()
    assert lines[0] == "text,label"
    assert len(lines) == 1 + 10_050
    texts, labels = zip(*(line.rsplit(",", 1) for line in lines[1:]), strict=True)
    assert {len(text.split()) for text in texts} == {growth.WORDS_OF_A_TEXT}
    assert set(labels) == {"even", "odd"}
    assert len({word for text in texts for word in text.split()}) > growth.WORDS / 10


def test_contestants_take_turns_and_the_first_round_does_not_count():
    calls = []
    seconds = timing.interleave(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2
    )
    assert calls == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [2, 2]


def test_pruning_counts_all_kernels(monkeypatch, tmp_path, capsys):
    file = tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", ["pruning", "--hidden_size=4", "--rounds=1", f"--json={file}"])
    pruning.main()
    found = json.loads(file.read_text())
    assert found["weights"] == 2 * (100 + 4) * 16 + 2 * (8 + 4) * 16 + 8 * 2
    assert found["first_seconds"] > 0 < found["seconds"]["median"]
    assert found["peak_bytes"] > 1e7
    assert "3,728" in capsys.readouterr().out


def test_work_counts_forward_once_and_backward_twice():
    # 6 tokens, each of them 12 numbers times a matrix of 28 columns, a product and a sum per
    # entry: 4,032 operations; in two directions, three times.
    shape = Shape(batch=2, length=3, features=5, hidden=7, layers=1)
    assert shape.flops == 24_192
    assert TWEETS.flops == pytest.approx(1.29e9, rel=0.01)


@pytest.mark.slow
def test_flax_own_parts_are_the_same_function():
    """Flax's cell has our gates, and its classifier reads the same final states."""
    ours, theirs = (kind(11, 5, 3, 2, 2) for kind in (BiLSTMClassifier, FlaxClassifier))
    rng = np.random.default_rng(0)
    tokens = rng.integers(11, size=(4, 6)).astype(np.int32)
    lengths = np.array([6, 1, 3, 5], np.int32)
    params = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32) * 0.3,
        jax.jit(ours.init)(jax.random.key(0), tokens, lengths)["params"],
    )
    other = {"embedding": params["embedding"], "head": params["head"]}
    for layer, direction in itertools.product(range(2), ("forward", "backward")):
        mine = params[f"lstm_{layer}"][direction]
        cell = {}
        for gate, name in enumerate("ifgo"):
            columns = slice(3 * gate, 3 * gate + 3)
            cell[f"i{name}"] = {"kernel": mine["input_kernel"][:, columns]}
            cell[f"h{name}"] = {
                "kernel": mine["recurrent_kernel"][:, columns],
                "bias": mine["bias"][columns],
            }
        other[f"OptimizedLSTMCell_{2 * layer + (direction == 'backward')}"] = cell
    like = jax.eval_shape(theirs.init, jax.random.key(0), tokens, lengths)["params"]
    shapes = jax.tree.map(np.shape, like)
    assert jax.tree.map(np.shape, other) == shapes
    np.testing.assert_allclose(
        ours.apply({"params": params}, tokens, lengths),
        theirs.apply({"params": other}, tokens, lengths),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.slow
def test_torch_keeps_its_masks():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra bench")
    from lth_flax.benchmarks.torch_model import Classifier, Masked

    torch.manual_seed(0)
    masked = Masked(Classifier(11, 5, 3, 2, 2, 0.5), 0.01)
    masked.prune(0.6)
    sizes = sum(mask.numel() for mask in masked.masks)
    assert sum(int(mask.sum()) for mask in masked.masks) == sizes - round(0.6 * sizes)
    tokens, labels = torch.randint(11, (6, 4)), torch.randint(2, (4,))
    before = [weights.detach().clone() for weights in masked.prunable]
    for _ in range(3):
        masked.step(tokens, labels, torch.tensor([6, 5, 3, 1]))
    for weights, mask, old in zip(masked.prunable, masked.masks, before, strict=True):
        assert not weights[mask == 0].any()
        assert (weights != old)[mask == 1].any()


@pytest.mark.slow
def test_a_row_holds_its_embedding_its_moments_and_its_best_epoch():
    shape = TWEETS._replace(layers=1, hidden=4)  # which the embedding does not depend on
    small, large = (bytes_of_a_row(words, shape) for words in (100, 300))
    # Parameters, two moments of Adam, the best epoch's parameters: four copies at the least.
    assert large.per_row - small.per_row >= 4 * 200 * TWEETS.features * 4
    assert small.shared == large.shared  # the texts are there once


def test_a_worker_that_ends_is_one_line():
    workers = timing.Workers("shapes", [[]], needs="is it installed?")  # no worker at all
    with pytest.raises(SystemExit, match="ended: is it installed"):
        workers.run(1)
