"""A ticket reads new texts as its training read the old ones."""

import jax
import numpy as np
import pytest
from made_tickets import CLASSES, WORDS, make_ticket

from lth_flax.data.text import PADDING_ID, UNKNOWN_ID
from lth_flax.errors import UserError
from lth_flax.tickets import load_ticket, save_ticket


def answer(ticket, ids, time=8):
    """One text by hand: its ids, a batch of one, a softmax in float64."""
    tokens = np.array([ids + [PADDING_ID] * (time - len(ids))], np.int32)
    apply = jax.jit(ticket.model.apply)
    logits = apply({"params": ticket.trained_params}, tokens, np.array([len(ids)]))
    powers = np.exp(np.asarray(logits, np.float64)[0])
    return powers / powers.sum()


def ids_of(words):
    return [WORDS.index(word) if word in WORDS else UNKNOWN_ID for word in words]


TEXTS = [
    "Not a GOOD film",
    "",
    "  bad,&amp; bad <br /> film http://example.com/x ",
    "an unknown wonder: good",
]
READ = [
    ["not", "a", "good", "film"],
    [],
    ["bad", ",", "&", "bad", "film"],
    ["an", "unknown", "wonder", ":", "good"],
]


def test_texts_are_cleaned_looked_up_and_answered_one_by_one():
    ticket = make_ticket(layers=1, seed=2)
    found = ticket.predict(TEXTS)
    for one, words in zip(found, READ, strict=True):
        expected = answer(ticket, ids_of(words))
        np.testing.assert_allclose(list(one.probabilities.values()), expected, atol=1e-5)
        assert list(one.probabilities) == list(CLASSES)
        assert one.label == CLASSES[int(expected.argmax())]
        assert one.words == len(words)
        assert one.unknown == tuple(word for word in words if word not in WORDS)
    assert len({one.label for one in found}) > 1


@pytest.mark.slow
def test_an_answer_does_not_depend_on_the_other_texts():
    ticket = make_ticket(layers=1)
    many = [" ".join(WORDS[2 + (k * j) % 5] for j in range(k % 19)) for k in range(150)]
    found = ticket.predict(many)
    for row in (0, 7, 18, 149):
        alone = ticket.predict([many[row]])[0]
        assert alone.label == found[row].label
        np.testing.assert_allclose(
            list(alone.probabilities.values()), list(found[row].probabilities.values()), atol=1e-6
        )


@pytest.mark.parametrize(("keep", "words"), [("end", ["bad", "film"]), ("start", ["good", "a"])])
def test_a_long_text_is_cut_as_in_training(keep, words):
    ticket = make_ticket(layers=1, settings={"max_length": 2, "keep": keep})
    (found,) = ticket.predict(["good a not bad film"])
    np.testing.assert_allclose(
        list(found.probabilities.values()), answer(ticket, ids_of(words)), atol=1e-5
    )
    assert found.words == 2


def test_a_head_at_the_last_padded_position_is_padded_as_in_training():
    ticket = make_ticket(layers=1, readout="last_position", padded_length=6)
    short, long = ticket.predict(["good film", "a a a a good not bad film"])
    expected = answer(ticket, ids_of(["good", "film"]), time=6)
    np.testing.assert_allclose(list(short.probabilities.values()), expected, atol=1e-5)
    cut = answer(ticket, ids_of(["a", "a", "good", "not", "bad", "film"]), time=6)
    np.testing.assert_allclose(list(long.probabilities.values()), cut, atol=1e-5)
    unsaid = make_ticket(layers=1, readout="last_position", padded_length=None)
    with pytest.raises(UserError, match="does not say how far texts were padded"):
        unsaid.predict(["good"])


def test_characters_and_tweets_are_read_as_such():
    letters = ("<pad>", "<unk>", "g", "o", " ")
    ticket = make_ticket(layers=1, words=letters, settings={"tokenizer": "characters"})
    (found,) = ticket.predict(["Good  dog"])
    expected = answer(ticket, [2, 3, 3, 1, 4, 1, 3, 2])
    np.testing.assert_allclose(list(found.probabilities.values()), expected, atol=1e-5)
    assert found.unknown == ("d", "d")
    (tweet,) = make_ticket(layers=1, dataset="financial_tweets").predict(["RT @someone: film"])
    assert (tweet.words, tweet.unknown) == (1, ())
    (raw,) = make_ticket(layers=1, cleaning="none").predict(["&amp;film"])
    assert raw.unknown == ("&", "amp", ";")


def test_a_saved_ticket_answers_like_the_one_that_was_saved(tmp_path):
    ticket = make_ticket(layers=1)
    save_ticket(tmp_path / "one", ticket)
    assert load_ticket(tmp_path / "one").predict(TEXTS) == ticket.predict(TEXTS)


@pytest.mark.parametrize(
    ("ticket", "texts", "says"),
    [
        ({}, [], "there is no text"),
        ({}, "good", "must be a list of texts"),
        ({}, [b"good"], "must be a list of texts"),
        ({"task": "games"}, ["good"], "a ticket of 'games'"),
        ({"vocabulary": ["a"] * 2}, ["good"], "does not begin with <pad> and <unk>"),
        ({"settings": {"tokenizer": "bytes"}}, ["good"], "tokenizer 'bytes'"),
        ({"cleaning": "soap"}, ["good"], "cleaning 'soap'"),
        ({"settings": {"keep": "middle"}}, ["good"], "keep 'middle'"),
        ({"settings": {"max_length": -1}}, ["good"], "length -1"),
    ],
)
def test_what_cannot_be_answered_is_one_error(ticket, texts, says):
    with pytest.raises(UserError, match=says):
        make_ticket(layers=1, **ticket).predict(texts)
