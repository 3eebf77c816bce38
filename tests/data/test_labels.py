"""One class, one spelling; and no label is not a class."""

import pytest

from lth_flax.data.labels import class_names_of, reading
from lth_flax.errors import UserError

SPELLINGS = [
    ("1", "1.0"), ("1", "01"), ("1", "+1"), ("1", "1e0"), ("1", "１"), ("0", "-0.0"), ("1", " 1"),
    ("Positive", "positive"), ("pos", "POS"), ("STRASSE", "Straße"), ("Σ", "ς"),
    ("pos", "pos\u200b"), ("pos", "\ufeffpos"), ("pos", "p\u00ados"), ("pos", "pos\u00a0"),
    ("very good", "very\u00a0good"), ("very good", "very  good"), ("pos", "pos\x07"),
    ("caf\u00e9", "cafe\u0301"), ("pos", "ｐｏｓ"), ("pos", "pos\u3164"),
    ("True", "true"), ("True", "1"), ("false", "0.0"), ("FALSE", "False"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SPELLINGS)
def test_one_class_in_two_spellings_is_refused_with_counts(one, other):
    labels = [one] * 1200 + [other] * 3 + ["else"] * 5
    with pytest.raises(UserError) as error:
        class_names_of(labels, "t.csv: column 'y'")
    message = str(error.value)
    assert message.startswith("t.csv: column 'y' has one class in several spellings")
    assert "(1,200 times)" in message
    assert "(3 times)" in message
    assert "make them the same" in message
    assert "else" not in message
    assert message.isprintable()
    # What is said of the two differs where it is read.
    shown = message.partition("spellings: ")[2]
    first, second = (part.rpartition(" (")[0] for part in shown.split(" and ", 1))
    assert first != second


@pytest.mark.parametrize(
    "label",
    ["nan", "NaN", "NULL", "null", "None", "N/A", "NA", "<NA>", "#N/A", "NaT", "\\N", " nan "],
)
@pytest.mark.parametrize("others", [["good", "bad"], ["1", "0"], ["1.0", "0.0"]])
def test_no_label_is_no_class(label, others):
    with pytest.raises(UserError, match="missing label") as error:
        class_names_of([*others, label] * 7, "t.csv: column 'y'")
    assert f"{label!r} (7 times)" in str(error.value)
    assert "remove these rows" in str(error.value)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "10", "9"], ["9", "10"]),
        (["-1", "1", "0.5"] * 2, ["-1", "0.5", "1"]),
        (["racism", "none", "sexism"] * 2, ["none", "racism", "sexism"]),
        (["FAVOR", "NONE"] * 2, ["FAVOR", "NONE"]),
        (["True", "False"] * 2, ["False", "True"]),
        (["ı", "i"] * 2, ["i", "ı"]),
        (["x", "1_0", "10"] * 2, ["10", "1_0", "x"]),
        (
            ["12345678901234567", "12345678901234568"] * 2,
            ["12345678901234567", "12345678901234568"],
        ),
        (["inf", "1"] * 2, ["1", "inf"]),
        (["1", "1.5", "2"] * 2, ["1", "1.5", "2"]),
    ],
)
def test_what_differs_stays_different(labels, names):
    assert class_names_of(labels, "t.csv") == names


def test_many_spellings_are_not_all_listed():
    labels = [f"{'0' * n}1" for n in range(40)] * 2
    with pytest.raises(UserError, match="34 more"):
        class_names_of(labels, "t.csv")


def test_many_classes_are_not_all_listed():
    labels = [f"c{n:02}" for n in range(20)] + [f"C{n:02}" for n in range(20)]
    with pytest.raises(UserError, match="and 17 more classes") as error:
        class_names_of(labels * 2, "t.csv")
    assert len(str(error.value)) < 600


def test_a_label_that_nobody_sees_says_nothing():
    assert reading("\u200b \ufeff\t") == ""
