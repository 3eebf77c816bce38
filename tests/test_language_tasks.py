"""Language models from text to perplexity, tickets and what these say of texts."""

import io
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lth_flax as lth
from lth_flax import cli
from lth_flax.config import Config, PredictConfig
from lth_flax.data.corpus import read_corpus
from lth_flax.errors import UserError
from lth_flax.experiments import predict
from lth_flax.language_tasks import language_examples, language_task
from lth_flax.tickets import load_ticket, save_ticket

SMALL = {
    "synthetic_size": 300, "embedding_size": 8, "hidden_size": 8, "num_layers": 1, "bptt": 12,
    "dropout": 0.1,
}  # fmt: skip


def made(**settings):
    """(task, examples, corpus)."""
    config = Config(**{"task": "language_model", "min_count": 1, **settings})
    corpus = read_corpus(config)
    task = language_task(config, corpus, num_layers=config.one("num_layers"))
    return task, language_examples(config, corpus), corpus


def test_perplexity_of_a_three_word_corpus_is_that_by_hand(tmp_path):
    """A network that knows frequencies alone: p(a) = 1/2, p(b) = p(c) = 1/8, p(end) = 1/4."""
    text = tmp_path / "text"
    text.write_text("a a b\na a c\n" * 8)
    task, examples, corpus = made(
        data_file=str(text), hidden_size=3, embedding_size=2, bptt=4, num_layers=1,
        validation_share=0.4, test_share=0.2,
    )  # fmt: skip
    assert set(corpus.vocabulary.words[2:]) == {"a", "b", "c", "<eos>"}
    params = jax.tree.map(np.zeros_like, task.init(jax.random.key(0)))
    shares = {"a": 1 / 2, "b": 1 / 8, "c": 1 / 8, "<eos>": 1 / 4}
    bias = [math.log(shares[w]) if w in shares else -1e9 for w in corpus.vocabulary.words]
    params["head"]["bias"] = np.array(bias, np.float32)
    batch = {**examples.of(0, "test"), "weight": np.ones(3, np.float32)}
    # The last 13 tokens, "<eos> a a c <eos> a a b <eos> a a c <eos>": after the first, three
    # stretches, of which each has -log p of 2 log 2 + log 8 + log 4.
    outputs, _ = task.evaluate(params, batch, task.carry(3))
    metrics = task.measure(jax.device_get(outputs), examples.of(0, "test"))
    by_hand = (1 / 2 * 1 / 2 * 1 / 8 * 1 / 4) ** (-1 / 4)
    assert metrics["perplexity"] == pytest.approx(by_hand, rel=1e-6)
    assert metrics["loss"] == pytest.approx(math.log(by_hand), rel=1e-6)
    # As many of each word equally likely: the perplexity is their number.
    params["head"]["bias"][:] = 0
    outputs, _ = task.evaluate(params, batch, task.carry(3))
    metrics = task.measure(jax.device_get(outputs), {})
    assert metrics["perplexity"] == pytest.approx(len(corpus.vocabulary), rel=1e-6)


def test_a_loss_that_is_too_large_for_a_perplexity_is_infinite():
    task, *_ = made(**SMALL)
    assert task.measure({"loss": np.array([1e4])}, {})["perplexity"] == math.inf


def test_no_token_is_predicted_from_itself():
    """The gradient of the loss at t by the inputs after t is zero; its target is one of these."""
    task, _, _ = made(**{**SMALL, "dropout": 0.0})
    params = task.init(jax.random.key(1))
    tokens = np.arange(2, 10)  # every token once: its vector is the input at one place
    targets = tokens + 1

    @jax.jit
    def gradient(targets):
        def mean(table):
            batch = {"tokens": tokens[None], "targets": targets[None], "weight": jnp.ones(1)}
            changed = {**params, "embedding": {"embedding": table}}
            return task.loss(changed, batch, jax.random.key(0), task.carry(1))[0]

        return jax.grad(mean)(params["embedding"]["embedding"])

    for t in range(len(tokens)):
        # With another target at t alone, what the two differ in is the loss at t.
        other = targets.copy()
        other[t] = 30
        by_inputs = np.asarray(gradient(targets) - gradient(other))[tokens]
        assert np.abs(by_inputs[: t + 1]).max(axis=1).min() > 0
        np.testing.assert_array_equal(by_inputs[t + 1 :], 0)


@pytest.fixture(scope="module")
def found():
    task, examples = lth.language_model(**SMALL)
    return lth.find_tickets(
        task, examples, seeds=2, levels=[0.5], arms=["ticket", "reinit"], rewind="30%",
        training=lth.Training(epochs=2, batch_size=8, learning_rate=0.01),
    )  # fmt: skip


@pytest.mark.slow
def test_a_search_compares_perplexities_and_lower_is_better(found):
    assert {record.primary for record in found.records} == {"perplexity"}
    assert not any(record.higher_is_better for record in found.records)
    for record in found.records:
        metrics = record.metrics
        assert metrics["perplexity"] == pytest.approx(math.exp(record.loss), rel=1e-9)
        assert 1 < metrics["perplexity"] < 200  # 199 words: it has learned
        assert record.accuracy is None
        assert record.connected
    assert "perplexity" in found.verdict
    assert {r.settings["bptt"] for r in found.records} == {12}


@pytest.mark.slow
def test_masks_are_on_the_layers_alone_unless_all_is_said(found):
    mask = found.tickets[0, 0.5].mask
    assert np.ndim(mask["embedding"]["embedding"]) == np.ndim(mask["head"]["embedding"]) == 0
    kernels = [mask["lstm_0"]["forward"][name] for name in ("input_kernel", "recurrent_kernel")]
    assert sum(int(k.sum()) for k in kernels) == sum(k.size for k in kernels) // 2


@pytest.mark.slow
def test_a_saved_ticket_scores_a_text_as_a_long_pass_does(found, tmp_path):
    ticket = found.tickets[1, 0.5]
    save_ticket(tmp_path / "one", ticket)
    language = load_ticket(tmp_path / "one").language
    text = "the plot was dull but the cast was really superb " * 5
    (score,) = language.score([text])
    words = list(ticket.metadata["vocabulary"])
    ids = [words.index("<eos>"), *(words.index(w) for w in text.split()), words.index("<eos>")]
    task, _ = lth.language_model(**SMALL)
    outputs, _ = task.evaluate(
        ticket.trained_params,
        {"tokens": np.array([ids[:-1]]), "targets": np.array([ids[1:]])},
        task.carry(1),
    )
    assert score.words == 50
    assert score.loss == pytest.approx(float(outputs["loss"][0]), rel=1e-5)
    assert language.score(["the qwerty"])[0].unknown == ("qwerty",)
    with pytest.raises(UserError, match="ticket of 'language_model'"):
        _ = ticket.model


@pytest.mark.slow
def test_a_continuation_is_what_the_network_says(found):
    language = found.tickets[0, 0.5].language
    greedy = language.continued("the plot", 5, temperature=0).split()
    assert 1 <= len(greedy) <= 5
    # Each is the likeliest: no other first word makes the text more likely.
    first = min(
        (word for word in language.vocabulary.words[2:] if word != "<eos>"),
        key=lambda word: _first_loss(language, "the plot", word),
    )
    assert greedy[0] == first
    drawn = {language.continued("the plot", 4, seed=seed) for seed in range(5)}
    assert len(drawn) > 1
    assert language.continued("the plot", 4, seed=3) == language.continued("the plot", 4, seed=3)


def _first_loss(language, text, word):
    logits, _ = language._read(language._ids(text)[0])
    return -logits[-1][language.vocabulary.ids[word]]


def run(monkeypatch, capsys, arguments):
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    monkeypatch.setattr(predict, "configure_jax", lambda config, **_: "")
    monkeypatch.setattr(cli.interrupt, "install", lambda: None)
    monkeypatch.setattr(cli, "quiet_process", lambda: None)
    try:
        cli.run(predict.main, PredictConfig, "predict", "texts")
    except SystemExit as end:
        return end.code, *capsys.readouterr()
    return 0, *capsys.readouterr()


@pytest.mark.slow
def test_predict_scores_and_continues(found, tmp_path, monkeypatch, capsys):
    place = tmp_path / "one"
    save_ticket(place, found.tickets[0, 0.5])
    status, out, err = run(monkeypatch, capsys, [f"--ticket={place}", "the plot was dull", ""])
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == ["perplexity"] * 2
    assert "(4 tokens)" in out
    assert err == "0 of 4 words are unknown to the ticket\n"
    status, out, _ = run(
        monkeypatch, capsys,
        [f"--ticket={place}", "the plot", "--continue_tokens=3", "--temperature=0"],
    )  # fmt: skip
    greedy = found.tickets[0, 0.5].language.continued("the plot", 3, temperature=0)
    assert (status, out) == (0, f"the plot | {greedy}\n")
    status, out, _ = run(monkeypatch, capsys, [f"--ticket={place}", "a, b", "--output=csv"])
    assert out.startswith("perplexity,loss,tokens\n")
    assert out.count("\n") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"vocabulary": None}, "does not say"),
        ({"model": {"hidden_size": 3}}, "does not say"),
        ({"tokenizer": "letters"}, "does not say"),
        ({"cleaning": []}, "does not say"),
        ({"vocabulary": ["<pad>", "<unk>", "<eos>"]}, "not those of its model"),
        ({"task": "other"}, "ticket of 'other'"),
    ],
)
def test_a_ticket_that_lies_is_one_line(found, changed, words):
    ticket = found.tickets[0, 0.5]
    lying = type(ticket)(
        ticket.initial_params, ticket.mask, ticket.trained_params, {**ticket.metadata, **changed}
    )
    with pytest.raises(UserError, match=words) as refused:
        _ = lying.language
    assert "\n" not in str(refused.value)


def test_predict_refuses_what_a_classifier_cannot():
    config = cli.parse(PredictConfig, ["--continue_tokens=4"], "predict")
    assert config.given == {"continue_tokens"}
