"""A class that a split lacks: each cause has its own line and its own remedy."""

import numpy as np
import pytest

from lth_flax.config import Config
from lth_flax.data.dataset import build_dataset
from lth_flax.data.source import Source
from lth_flax.errors import UserError

CLASSES = ("rare", "usual")


def refused(rare, usual=100, *, where="train", own=(), rule="keep", same=False, **shares):
    """The complaint about `rare` texts of one class, in an own split or not, beside `usual`."""
    places = [where] * rare + ["train"] * usual
    labels = [0] * rare + [1] * usual
    for split in own:
        places += [split] * 4
        labels += [1] * 4
    texts = [f"text{0 if same and n < rare else n}" for n in range(len(places))]
    official = {split: np.array([place == split for place in places]) for split in own}
    source = Source("made", texts, np.array(labels), CLASSES, official)
    options = Config(max_shapes=2, batch_size=2, duplicates=rule, **shares)
    with pytest.raises(UserError) as error:
        build_dataset(source, [0, 1], options)
    message = str(error.value)
    assert "made would have no text of class rare" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ({"rare": 1}, ["1 is of it, too few for 3 splits", "more texts of the class, or remove"]),
        ({"rare": 2}, ["2 are of it, too few for 3 splits"]),
        (
            {"rare": 4},
            [
                "validation split",
                "10.0% of 4 is less than one",
                "at least 10",
                "--validation_share",
            ],
        ),
        (
            {"rare": 4, "validation_share": 0.3, "test_share": 0.1},
            ["test split", "10.0% of 4 is less than one", "--test_share"],
        ),
        (
            {"rare": 3, "validation_share": 0.9, "test_share": 0.05},
            ["train split", "all are held out", "smaller --validation_share"],
        ),
        (
            {"rare": 20, "own": ("test",)},
            ["test split", "none in this split, which is the data's own", "another file"],
        ),
        (
            {"rare": 20, "own": ("validation",)},
            ["validation split", "none in this split, which is the data's own"],
        ),
        (
            {"rare": 20, "where": "test", "own": ("test",)},
            ["train split", "all in the data's own test split", "none to learn from"],
        ),
        ({"rare": 1, "own": ("test", "validation")}, ["validation split", "none in this split"]),
        ({"rare": 9, "rule": "drop", "same": True}, ["1 is of it", "too few"]),
        ({"rare": 30, "rule": "group", "same": True}, ["copies of few (--duplicates=group)"]),
    ],
)
def test_each_cause_has_its_line(case, parts):
    message = refused(**case)
    assert all(part in message for part in parts), message


def test_a_class_of_which_nothing_is_left():
    texts = ["same"] * 5 + ["same"] * 5 + [f"t{n}" for n in range(40)]
    labels = np.array([1] * 5 + [0] * 5 + [1] * 40)
    source = Source("made", texts, labels, CLASSES)
    options = Config(max_shapes=2, batch_size=2, duplicates="drop")
    with pytest.raises(UserError, match="none of it is left; give --duplicates=keep"):
        build_dataset(source, [0], options)


def test_nothing_is_left_to_train_on():
    source = Source(
        "made", ["a", "b"] * 2, np.array([0, 1, 0, 1]), CLASSES,
        official={"test": np.array([False, False, True, True])},
    )  # fmt: skip
    options = Config(max_shapes=2, batch_size=2, duplicates="group")
    with pytest.raises(UserError, match="no text to train on"):
        build_dataset(source, [0], options)
