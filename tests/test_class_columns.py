"""What a record says of classes, and that only classes are taken for some."""

import numpy as np
import pytest

from lth_flax.runs.results import class_columns


def test_shares_of_the_predicted_classes_and_of_the_most_frequent_one():
    labels = np.array([0, 1, 1, 1])
    found = class_columns({"predicted": np.array([1, 1, 0, 1])}, labels, 3)
    assert found == {"predicted_shares": (0.25, 0.75, 0.0), "majority_accuracy": 0.75}
    assert class_columns({}, labels, None) == {"predicted_shares": (), "majority_accuracy": 0.75}


@pytest.mark.parametrize(
    "labels",
    [None, np.array([0.5, 1.0]), np.array([-1, 1]), np.array([[0], [1]]), np.array([True, False])],
    ids=["none", "numbers", "signs", "two dimensions", "booleans"],
)
def test_what_are_no_classes(labels):
    found = class_columns({"predicted": np.array([1, 0])}, labels, None)
    if labels is not None and labels.dtype == bool:
        assert found["predicted_shares"] == (0.5, 0.5)
    else:
        assert found == {"predicted_shares": (), "majority_accuracy": None}


@pytest.mark.parametrize("predicted", [np.array([-1, 1]), np.array([0.1, 0.9])])
def test_predictions_that_are_no_classes_have_no_shares(predicted):
    found = class_columns({"predicted": predicted}, np.array([0, 1]), None)
    assert found == {"predicted_shares": (), "majority_accuracy": 0.5}
