"""Barriers on a line, and the table that keeps them."""

import pytest

from lth_flax.analysis.draw_connectivity import connectivity_figure, gap_figure
from lth_flax.analysis.stability import Line, barrier, read_lines, sentences, write_lines
from lth_flax.errors import UserError

LINES = [
    Line(0.001, point, step, seed, matched, (0.5, high + seed, 0.1), (20.0, 40.0 + seed, 30.0))
    for point, step in (("0", 0), ("5%", 12))
    for seed in (3, 4)
    for matched, high in ((False, 2.0), (True, 0.25))
]


def test_a_barrier_is_the_highest_point_above_the_mean_of_the_ends():
    assert barrier([1.0, 5.0, 3.0, 2.0]) == 3.5
    assert barrier([4.0, 4.0, 4.0]) == 0
    assert barrier([3.0, 2.0, 1.0]) == 1.0  # the worse end itself


def test_lines_come_back_as_they_were_and_say_their_means(tmp_path):
    path = tmp_path / "connectivity.csv"
    assert read_lines(path) == []
    write_lines(path, LINES)
    assert read_lines(path) == LINES
    assert len(path.read_text().splitlines()) == 1 + 8 * 3
    # Barriers of test error: 15 + seed; of training loss 1.7 + seed and -0.05 + seed.
    first, second = sentences(LINES, 0.001, "5%")
    assert "as trained" in first
    assert first.endswith("training loss 5.2000, of test error 18.50 points")
    assert "units matched" in second
    assert second.endswith("training loss 3.4500, of test error 18.50 points")


def test_another_file_is_one_line(tmp_path):
    path = tmp_path / "connectivity.csv"
    write_lines(path, LINES)
    broken = path.read_text().replace("43.0", "forty", 1)
    for text in ("a,b\n1,2\n", "\0", "", broken):
        path.write_text(text)
        with pytest.raises(UserError, match="no table of connectivity"):
            read_lines(path)


def test_the_figure_has_a_row_per_measure_and_a_column_per_rate():
    other = [line._replace(learning_rate=0.01) for line in LINES[:4]]
    figure = connectivity_figure([*LINES, *other], "tweets, 2 seeds")
    assert len(figure.axes) == 4
    means = [list(line.get_ydata()) for line in figure.axes[0].lines if len(line.get_ydata()) == 2]
    assert means[2] == [5.2, 5.2]  # after the points of two seeds at two places
    assert figure.axes[0].get_title(loc="left") == "learning rate 0.001"


TICKETS = [
    line._replace(sparsity=0.9, control_error=28.0 + line.seed, train_loss=(0.5, 0.5, 0.5))
    for line in LINES
]


def test_a_line_of_tickets_has_their_gap(tmp_path):
    # Ends err by 20 and 30 percent, the control of seed 3 by 31 and of seed 4 by 32.
    assert [line.gap for line in TICKETS[:3]] == [6.0, 6.0, 7.0]
    *_, last = sentences([*LINES, *TICKETS], 0.001, "5%")
    assert "tickets of 90% from 5%, units matched" in last
    assert last.endswith("ticket minus reinit +6.50 points of accuracy")
    write_lines(tmp_path / "lines.csv", [*LINES, *TICKETS])
    assert read_lines(tmp_path / "lines.csv") == [*LINES, *TICKETS]


def test_gaps_are_drawn_against_barriers():
    figure = gap_figure([*LINES, *TICKETS], "tweets, 2 seeds")
    points = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    # Of two rewind points the seeds, then their mean: 15 + seed, and 3 + seed.
    assert points[:2] == [[[18.0, 6.0], [19.0, 7.0]], [[18.5, 6.5]]]
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "5%"]
    titles = [
        axes.get_title(loc="left")
        for axes in connectivity_figure([*LINES, *TICKETS], "tweets").axes[:2]
    ]
    assert titles == ["learning rate 0.001", "learning rate 0.001\ntickets of 90%"]
