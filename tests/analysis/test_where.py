"""The words and the table that README and docs take from a summary, by summaries made by hand."""

import pytest

from lth_flax.analysis.where import verdict_at, where_lines
from lth_flax.errors import UserError


def level(sparsity, mean, interval, direction=None):
    gap = {"mean": mean, "interval": interval}
    return {"target_sparsity": sparsity, "gap": gap, "direction": direction}


@pytest.mark.parametrize(
    ("interval", "direction", "word"),
    [
        ([-0.4, 0.9], "better", "better"),
        ([-0.4, 0.9], "worse", "worse"),
        ([-1.0, 1.0], None, "equal"),
        ([-1.1, 0.2], None, "not shown"),
        ([-0.2, 1.1], None, "not shown"),
        (None, None, "not shown"),
    ],
)
def test_a_level_has_the_word_that_is_shown(interval, direction, word):
    assert verdict_at(level(0.5, 0.1, interval, direction), margin_points=1) == word


def test_the_lines_name_where_and_the_table_has_every_level():
    levels = [level(0.5, -0.04, [-0.5, 0.4]), level(0.9, 3.26, [1.0, 5.5], "better")]
    checkpoints = {"last": {"comparisons": {"reinit": {"levels": levels}}}}
    one = {"factors": {}, "checkpoints": checkpoints, "primary_checkpoint": "last"}
    summary = {
        "headline": {"control": "reinit", "sentence": "Said."},
        "options": {"margin_points": 1.0, "treatment": "ticket"},
        "configurations": [one], "own_rates": [], "factors": {},
    }  # fmt: skip
    assert where_lines(summary) == [
        "*Said.*", "",
        "- The ticket is better: 90%.",
        "- The ticket is worse: nowhere.",
        "- The ticket is equal within 1 point: 50%.", "",
        "|  | 50% | 90% |", "| --- | --- | --- |", "| all | equal, -0.0 | better, +3.3 |",
    ]  # fmt: skip
    with pytest.raises(UserError, match="nothing was compared"):
        where_lines({**summary, "headline": None})
