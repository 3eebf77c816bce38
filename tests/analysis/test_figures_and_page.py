"""Figures repeat to the byte and say n; the page is one safe, self-contained file."""

import dataclasses
import io
import re
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from analysis_fakes import plausible_run

from lth_flax.analysis.figures import accuracy_figure, figure_bytes, figures_of, gap_figure
from lth_flax.analysis.page import report_html, terminal_table, verdict_sentence
from lth_flax.analysis.summary import summarize

HOSTILE = "<script>alert('x')</script>&\"</title>"
VOID = {"meta", "img", "br"}


@pytest.fixture(scope="module")
def summary():
    return summarize(plausible_run(seeds=3, levels=4))


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_repeat_to_the_byte(summary, kind):
    first = {
        name: figure_bytes(figure, kind, dpi=60) for name, figure in figures_of(summary).items()
    }
    again = {
        name: figure_bytes(figure, kind, dpi=60) for name, figure in figures_of(summary).items()
    }
    assert set(first) == {"accuracy", "gap", "density"}
    assert first == again
    start = b"\x89PNG" if kind == "png" else b"<?xml"
    assert all(content.startswith(start) for content in first.values())
    assert all(b"<dc:date>" not in content for content in first.values())


@pytest.mark.parametrize("change", [{"dataset": "a$\\frac{$b"}, {"target_sparsity": 1.0}])
def test_what_records_say_can_always_be_drawn(change):
    records = [
        record if record.arm == "dense" else dataclasses.replace(record, **change)
        for record in plausible_run(seeds=2, levels=1)
    ]
    if "dataset" in change:
        records = [dataclasses.replace(record, **change) for record in records]
    for figure in figures_of(summarize(records)).values():
        assert figure_bytes(figure, "svg")


def test_figures_leave_matplotlib_as_it_was(summary):
    before = dict(matplotlib.rcParams)
    figure_bytes(accuracy_figure(summary), dpi=50)
    assert dict(matplotlib.rcParams) == before


def test_accuracy_figure_says_what_it_shows(summary):
    figure = accuracy_figure(summary)
    said = texts(figure)
    assert "n = 3 seeds" in said
    assert "Test accuracy (%)" in said
    assert "Sparsity of prunable weights (%)" in said
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == ["dense", "ticket", "reinit (3 draws per seed)"]
    assert any("majority class (55.0%" in label for label in legend)


def test_arms_differ_in_colour_marker_and_line(summary):
    handles = accuracy_figure(summary).legends[0].legend_handles
    arms = [
        h for h in handles if h.get_label().split()[0] in {"ticket", "reinit", "shuffled", "random"}
    ]
    assert len(arms) == 4
    for feature in ("get_color", "get_marker", "_unscaled_dash_pattern"):
        values = [getattr(handle, feature) for handle in arms]
        assert len({str(value() if callable(value) else value) for value in values}) == 4


def test_the_mean_is_drawn_where_it_is(summary):
    axes = accuracy_figure(summary).axes[0]
    table = summary["checkpoints"]["last"]["table"]
    ticket = [(1 - e["target_sparsity"], e["mean"]) for e in table if e["arm"] == "ticket"]
    lines = [line for line in axes.get_lines() if line.get_marker() == "o"]
    assert len(lines) == 1
    np.testing.assert_allclose(np.transpose(lines[0].get_data()), ticket)
    assert axes.get_xscale() == "log"
    assert axes.get_xlim()[0] > axes.get_xlim()[1]  # dense on the left


def test_gap_figure_has_a_panel_per_control(summary):
    figure = gap_figure(summary)
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert [title.split("\n")[0] for title in titles] == [
        "ticket − reinit (3 draws per seed)", "ticket − shuffled", "ticket − random",
    ]  # fmt: skip
    assert "n = 3 seeds" in texts(figure)


@pytest.mark.parametrize(
    "keep",
    [
        lambda r: r.seed == 0,
        lambda r: r.arm == "dense",
        lambda r: r.arm == "ticket",
        lambda r: r.target_sparsity in (0.0, 0.29),
        lambda r: r.checkpoint == "best",
    ],
)
def test_partial_data_still_draws_and_prints(keep):
    found = summarize([row for row in plausible_run(seeds=2, levels=2) if keep(row)])
    pictures = {name: figure_bytes(figure, dpi=50) for name, figure in figures_of(found).items()}
    page = report_html(found, pictures, {}, {})
    assert page.count("data:image/png;base64,") == len(pictures) >= 1
    assert terminal_table(found)
    assert verdict_sentence(found)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


def test_terminal_table_holds_the_numbers_and_fits(summary):
    table = terminal_table(summary)
    lines = table.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == [
        "sparsity",
        "ticket",
        "reinit",
        "shuffled",
        "random",
        "ticket",
        "−",
        "reinit",
    ]
    rows = {e["target_sparsity"]: e for e in summary["checkpoints"]["last"]["table"]
            if e["arm"] == "shuffled"}  # fmt: skip
    half = (rows[0.29]["interval"][1] - rows[0.29]["interval"][0]) / 2
    assert f"{rows[0.29]['mean']:.2f} ± {half:.2f}" in next(
        line for line in lines if " 29%" in line
    )
    assert "n = 3 seeds" in lines[-1]


def test_many_arms_wrap_within_the_width():
    rows = [row for row in plausible_run(seeds=2, levels=2) if row.arm in ("dense", "ticket")]
    tickets = [row for row in rows if row.arm == "ticket"]
    extra = [
        type(row)(**{**vars(row), "arm": f"criterion_{k}", "row_id": f"{row.row_id}/{k}"})
        for row in tickets
        for k in range(9)
    ]
    table = terminal_table(summarize(rows + extra))
    assert max(map(len, table.splitlines())) <= 100
    assert all(f"criterion_{k}" in table for k in range(9))


class Checker(HTMLParser):
    """Collects tags and text, and fails where tags do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = io.StringIO()
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.write(data)


def test_page_is_whole_and_self_contained(summary):
    pictures = {name: figure_bytes(f, dpi=50) for name, f in figures_of(summary).items()}
    settings = {"num_layers": 2, "levels": [0.5, 0.9]}
    page = report_html(summary, pictures, settings, {"jax": "0.5.0"})
    checked = Checker(page)
    text = checked.text.getvalue()
    assert summary["headline"]["sentence"] in text
    for part in ("num_layers", "[0.5, 0.9]", "0.5.0", "Breakdown sparsity", "How to read this"):
        assert part in text
    for tag, attributes in checked.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert "url(" not in page
    assert "@import" not in page
    assert text.index(summary["headline"]["sentence"]) < text.index("Settings")
    assert page == report_html(summary, pictures, settings, {"jax": "0.5.0"})


def test_hostile_text_is_escaped():
    rows = plausible_run(seeds=2, levels=2, dataset=HOSTILE, experiment=HOSTILE)
    rows = [
        type(row)(**{**vars(row), "row_id": HOSTILE + row.row_id, "connected": False,
                     "arm": row.arm if row.arm != "random" else HOSTILE,
                     "diverged_epoch": 1})
        for row in rows
    ]  # fmt: skip
    found = summarize(rows)
    page = report_html(found, {HOSTILE: b"x"}, {HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE]})
    checked = Checker(page)
    assert "script" not in [tag for tag, _ in checked.tags]
    assert "<script" not in page
    assert checked.text.getvalue().count("alert('x')") > 10
    for figure in figures_of(found).values():
        assert b"<script" not in figure_bytes(figure, "svg")


def test_differences_with_censored_curves_are_marked_as_bounds():
    rows = [row for row in plausible_run(seeds=2, levels=2) if row.checkpoint == "last"]
    flat = [type(row)(**{**vars(row), "accuracy": 0.8}) for row in rows]
    page = report_html(summarize(flat), {}, {}, {})
    assert "<td>≥ 49.6%</td><td>2 of 2 runs</td>" in page
    assert page.count("+0.00 ± 0.00 (bound)") == 6  # three controls, breakdown and crater
