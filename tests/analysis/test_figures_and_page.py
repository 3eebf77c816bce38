"""Figures repeat to the byte and show what was measured; the page is one safe, whole file."""

import dataclasses
import io
import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from analysis_fakes import plausible_run, record

from lth_flax.analysis.figures import (
    accuracy_figure,
    breakdown_figure,
    figure_bytes,
    figures_of,
    gap_figure,
    learning_figure,
    retraining_figure,
)
from lth_flax.analysis.page import pairs, report_html
from lth_flax.analysis.plot_style import COLUMN_MM, PAGE_MM, SparsityScale, ordered_styles
from lth_flax.analysis.summary import summarize
from lth_flax.records import CurvePoint

HOSTILE = "<script>alert('x')</script>&\"</title>"
VOID = {"meta", "img", "br"}


def curves(rows, epochs=3):
    """Training loss 1/epoch, validation accuracy 0.5 + 0.1 * epoch, of every run."""
    runs = {(r.row_id, r.arm, r.seed, r.draw, r.target_sparsity) for r in rows}
    return [
        CurvePoint(*run, epoch, 1 / epoch, 0.7, 0.5 + 0.1 * epoch)
        for run in sorted(runs)
        for epoch in range(1, epochs + 1)
    ]


@pytest.fixture(scope="module")
def summary():
    rows = plausible_run(seeds=3, levels=4, train_steps=60)
    return summarize(rows, curves=curves(rows))


@pytest.fixture(scope="module")
def grid():
    """Two depths and two rates; the rate is in the row's id and settings."""
    rows = [
        dataclasses.replace(
            row,
            row_id=f"{row.row_id}/{layers}/{rate}",
            settings={**row.settings, "num_layers": layers, "learning_rate": rate, "epochs": 5},
        )
        for layers in (2, 4)
        for rate in (0.001, 0.01)
        for row in plausible_run(seeds=3, levels=3)
    ]
    return summarize(rows, curves=curves(rows))


@pytest.fixture(scope="module")
def retrained():
    """Seeds of dense, pruned and trained on; the gain of training on is far wider in one seed."""
    rows = []
    for seed, gain in enumerate((0.01, 0.02, 0.2)):
        rows.append(record(arm="dense", seed=seed, target_sparsity=0.0, level=0, accuracy=0.8))
        rows.append(record(arm="dense_retrained", seed=seed, target_sparsity=0.0, level=0))
        for level in (0.5, 0.9):
            for arm, accuracy in (("pruned", 0.7), ("retrained", 0.7 + gain)):
                rows.append(record(arm=arm, seed=seed, target_sparsity=level, accuracy=accuracy))
    return summarize(rows)


def texts(figure) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def pictures(summary, dpi=50):
    return {name: figure_bytes(figure, dpi=dpi) for name, figure in figures_of(summary).items()}


# Figures.


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_repeat_to_the_byte(summary, kind):
    first, again = (
        {name: figure_bytes(figure, kind, dpi=50) for name, figure in figures_of(summary).items()}
        for _ in range(2)
    )
    assert set(first) == {"accuracy", "gap", "learning", "breakdown", "density"}
    assert first == again
    start = b"\x89PNG" if kind == "png" else b"<?xml"
    assert all(content.startswith(start) for content in first.values())
    assert all(b"<dc:date>" not in content for content in first.values())


def test_the_users_settings_change_no_byte_and_are_kept(summary):
    plain = figure_bytes(accuracy_figure(summary), "svg")
    theirs = {"font.size": 30.0, "text.usetex": True, "lines.linewidth": 9.0, "savefig.dpi": 10,
              "savefig.bbox": "tight", "axes.facecolor": "red"}  # fmt: skip
    with matplotlib.rc_context(theirs):
        before = dict(matplotlib.rcParams)
        assert figure_bytes(accuracy_figure(summary), "svg") == plain
        assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "surroundings",
    [{"MPLBACKEND": "module://no.such.backend"}, {"MATPLOTLIBRC": "matplotlibrc"}],
    ids=lambda surroundings: next(iter(surroundings)),
)
@pytest.mark.slow
def test_a_backend_or_matplotlibrc_that_matplotlib_refuses_ends_nothing(tmp_path, surroundings):
    (tmp_path / "rc").mkdir()
    (tmp_path / "rc" / "matplotlibrc").write_bytes(b"\xff\xfe\x00")
    if "MATPLOTLIBRC" in surroundings:
        surroundings = {"MATPLOTLIBRC": str(tmp_path / "rc")}
    code = (
        "import os, lth_flax.analysis.figures as f; from matplotlib.figure import Figure; "
        "assert f.figure_bytes(Figure()).startswith(b'\\x89PNG'); "
        f"assert all(os.environ[k] == v for k, v in {surroundings!r}.items())"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **surroundings}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


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


@pytest.mark.slow
@pytest.mark.parametrize("width", [COLUMN_MM, PAGE_MM])
@pytest.mark.parametrize("which", ["summary", "grid", "retrained"])
def test_figures_have_the_width_and_nothing_leaves_them(which, width, request):
    """Panels with their labels, the note and the legend lie inside, and none on another."""
    for name, figure in figures_of(request.getfixturevalue(which), width_mm=width).items():
        figure.draw_without_rendering()  # lays it out
        assert figure.get_size_inches()[0] * 25.4 == pytest.approx(width)
        renderer = figure.canvas.get_renderer()
        parts = [axes for axes in figure.axes if axes.get_visible()]
        parts += [*figure.legends, figure._suptitle]
        boxes = [part.get_tightbbox(renderer).padded(-1.0) for part in parts]
        page = figure.bbox
        for number, box in enumerate(boxes):
            inside = (page.x0 <= box.x0, box.x1 <= page.x1, page.y0 <= box.y0, box.y1 <= page.y1)
            assert all(inside), (name, parts[number])
            for other, part in zip(boxes[:number], parts, strict=False):
                assert not box.overlaps(other), (name, parts[number], part)


@pytest.mark.parametrize("width", [COLUMN_MM, PAGE_MM])
@pytest.mark.parametrize(
    "levels", [[0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98], [k / 20 for k in range(20)],
               [1 - 0.8**k for k in range(24)], [0.5, 0.9995, 1.0]],
)  # fmt: skip
def test_every_level_has_its_label_and_none_lies_on_another(levels, width):
    rows = [record(arm=arm, seed=seed, target_sparsity=x, row_id=f"{arm}{seed}{x}", accuracy=0.7)
            for arm in ("ticket", "reinit") for seed in range(2) for x in levels]  # fmt: skip
    figure = accuracy_figure(summarize(rows), width_mm=width)
    figure.draw_without_rendering()
    axes = figure.axes[-1]
    labels = [label for label in axes.get_xticklabels() if label.get_text()]
    assert [float(label.get_text()) for label in labels] == pytest.approx(
        [100 * x for x in levels], abs=0.051
    )
    renderer = figure.canvas.get_renderer()
    lines = []  # where the last line of each label is: those above it are empty
    for label in labels:
        box = label.get_window_extent(renderer)
        height = 0.9 * box.height / (1 + label.get_text().count("\n"))
        line = matplotlib.transforms.Bbox.from_bounds(box.x0, box.y0, box.width, height)
        assert not any(line.overlaps(other) for other in lines), label.get_text()
        lines.append(line)


def test_the_axis_is_the_logarithm_of_what_remains():
    scale = SparsityScale([0.0, 0.5, 0.75, 1.0])
    assert scale(0.75) == pytest.approx(2 * scale(0.5)) == pytest.approx(2 * np.log(2))
    assert scale(1.0) > scale(0.75)


def test_accuracy_figure_says_what_it_shows(summary):
    figure = accuracy_figure(summary)
    said = texts(figure)
    for part in ("3 seeds", "Test accuracy (%)", "Sparsity: weights removed (%)"):
        assert part in said
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == [
        "dense: nothing pruned",
        "ticket: its own initial weights",
        "reinit: same mask, new random weights (3 draws)",
    ]
    assert any("most frequent class: 55.0%" in label for label in legend)


def test_arms_differ_in_colour_marker_and_line(summary):
    handles = accuracy_figure(summary).legends[0].legend_handles
    arms = [h for h in handles if h.get_label().partition(":")[0] in
            {"ticket", "reinit", "shuffled", "random"}]  # fmt: skip
    assert len(arms) == 4
    for feature in ("get_color", "get_marker", "_unscaled_dash_pattern"):
        values = [getattr(handle, feature) for handle in arms]
        assert len({str(value() if callable(value) else value) for value in values}) == 4


def points_drawn(axes, marker, color=None):
    return [
        point
        for line in axes.get_lines()
        if line.get_marker() == marker and line.get_markersize() > 2
        and (color is None or line.get_color() == color)
        for point in np.transpose(line.get_data())
    ]  # fmt: skip


def test_means_are_drawn_where_they_are(summary):
    axes = accuracy_figure(summary).axes[0]
    table = summary["configurations"][0]["checkpoints"]["last"]["table"]
    expected = [
        (-np.log(1 - cell["target_sparsity"]), cell["score"]["mean"])
        for cell in table
        if cell["arm"] == "ticket"
    ]
    np.testing.assert_allclose(points_drawn(axes, "o"), expected)


def crater_records(low=0.56):
    return [
        record(arm=arm, seed=seed, target_sparsity=x, row_id=f"{arm}{seed}{x}",
               accuracy=(low if x == 0.95 else 0.8) + 0.004 * seed)
        for arm in ("dense", "ticket", "reinit") for seed in range(3)
        for x in ([0.0] if arm == "dense" else [0.5, 0.8, 0.95])
    ]  # fmt: skip


def test_what_stays_near_dense_is_enlarged_beside_a_crater():
    whole, near = accuracy_figure(summarize(crater_records())).axes
    assert whole.get_ylim()[0] < 55 < 80 < whole.get_ylim()[1]
    assert 70 < near.get_ylim()[0] < 80 < near.get_ylim()[1]
    assert near.get_xlim() == whole.get_xlim()
    shallow = accuracy_figure(summarize(crater_records(low=0.79)))
    assert len(shallow.axes) == 1


def rates_apart():
    """Dense networks of 80 and 70%, each trained on for 2 points more, that crater at 95%; a third
    rate learned nothing: always the most frequent class, 55%."""
    return summarize([
        record(arm=arm, seed=seed, target_sparsity=x, row_id=f"{arm}{seed}{x}{rate}",
               settings={"num_layers": 2, "learning_rate": rate, "epochs": 5},
               accuracy=dense if dense == 0.55 else
               (0.55 if x == 0.95 else dense + 0.02 * arm.endswith("retrained")) + 0.001 * seed)
        for rate, dense in ((0.001, 0.8), (0.0001, 0.7), (0.01, 0.55)) for seed in range(3)
        for arm, levels in (("dense", [0.0]), ("dense_retrained", [0.0]),
                            ("pruned", [0.5, 0.95]), ("retrained", [0.5, 0.95]))
        for x in levels
    ])  # fmt: skip


def test_each_rate_stays_near_its_own_dense_network():
    *_, near = accuracy_figure(rates_apart()).axes
    assert near.get_title(loc="left").startswith("enlarged")
    low, high = near.get_ylim()
    assert 55 < low < 70 < 82.2 < high


def test_what_is_trained_on_begins_at_the_dense_network_that_is():
    for axes in accuracy_figure(rates_apart()).axes:
        if axes.get_title(loc="left").startswith("pruned"):
            more = 2 * ("trained on" in axes.get_title(loc="left"))
            starts = sorted(y for marker in "os" for x, y in points_drawn(axes, marker) if x == 0)
            np.testing.assert_allclose(starts, [70.1 + more, 80.1 + more])


def test_an_interval_that_is_cut_ends_in_an_arrow_and_the_caption_says_so(retrained):
    figure = accuracy_figure(retrained)
    wide = max(
        cell["score"]["interval"][1]
        for cell in retrained["configurations"][0]["checkpoints"]["last"]["table"]
    )
    assert wide > figure.axes[0].get_ylim()[1]  # 77.7 ± 26.6: more than can be
    assert "interval goes on beyond the axis" in texts(figure)
    assert len(points_drawn(figure.axes[0], "^")) == 2  # the two levels of "retrained"
    assert "goes on" not in texts(accuracy_figure(summarize(crater_records())))


def test_gap_figure_has_a_panel_per_control_on_one_scale(summary):
    figure = gap_figure(summary)
    titles = [" ".join(axes.get_title(loc="left").split()) for axes in figure.axes]
    assert [title.partition(":")[0] for title in titles] == [
        "minus reinit", "minus shuffled", "minus random",
    ]  # fmt: skip
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert len({axes.get_xlim() for axes in figure.axes}) == 1


def test_shown_differences_point_up_or_down():
    """8 seeds: better by 8 points at 90%, worse by 3 at 50%, noise of either sign at 70%."""
    rows = []
    for seed in range(8):
        noise = 0.01 * (-1) ** seed
        for level, gap in ((0.5, -0.03), (0.7, noise), (0.9, 0.08)):
            for arm, accuracy in (("ticket", 0.75 + gap), ("reinit", 0.75)):
                rows.append(record(arm=arm, seed=seed, target_sparsity=level,
                                   row_id=f"{arm}{seed}{level}",
                                   accuracy=accuracy + 0.0001 * seed))  # fmt: skip
    axes = gap_figure(summarize(rows)).axes[0]
    (up,), (down,), (ring,) = (points_drawn(axes, marker) for marker in "^vo")
    np.testing.assert_allclose(up, (-np.log(0.1), 8), atol=1e-9)
    np.testing.assert_allclose(down, (-np.log(0.5), -3), atol=1e-9)
    np.testing.assert_allclose(ring, (-np.log(0.3), 0), atol=1e-9)


def test_wide_gaps_are_compressed_and_the_figure_says_so(retrained, summary):
    assert "logarithmic beyond" in texts(retraining_figure(retrained))
    first, second = retraining_figure(retrained).axes
    assert first.get_yscale() == second.get_yscale() == "symlog"
    assert first.get_ylim() == second.get_ylim()
    assert gap_figure(summary).axes[0].get_yscale() == "linear"


def test_ordered_factors_have_ordered_colours(grid):
    figure = accuracy_figure(grid)
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"2 layers", "4 layers"} < labels  # words, not names of flags
    colours = [style["color"] for style in ordered_styles([2, 4, 6, 8])]
    light = [sum(matplotlib.colors.to_rgb(colour)) for colour in colours]
    assert light == sorted(light)
    assert len({axes.get_ylim() for axes in figure.axes}) <= 2  # whole and enlarged
    assert "num_layers" not in texts(figure)
    assert "learning_rate" not in texts(figure)


def test_configurations_stand_in_the_order_of_their_values():
    """As text 0.0001 is before 1e-05."""
    rows = [
        dataclasses.replace(row, row_id=f"{row.row_id}/{rate:g}",
                            settings={**row.settings, "learning_rate": rate, "epochs": 5})
        for rate in (0.0001, 0.00005, 0.00001) for row in plausible_run(seeds=2, levels=2)
    ]  # fmt: skip
    found = summarize(rows)
    rates = [one["factors"]["learning_rate"] for one in found["configurations"]]
    assert rates == [0.00001, 0.00005, 0.0001]
    labels = [text.get_text() for text in breakdown_figure(found).axes[0].get_yticklabels()]
    assert labels[0].startswith("learning rate 1e-05")


def test_a_ticket_that_is_rewound_is_called_so():
    def of(early, **more):
        settings = {"rewind_epoch": early, **more}
        rows = [dataclasses.replace(row, settings={**row.settings, **settings})
                for row in plausible_run(seeds=2, levels=2)]  # fmt: skip
        found = summarize(rows)
        return texts(accuracy_figure(found)), report_html(found, {}, {}, {})

    for early, label, meaning in (
        ("0", "ticket: its own initial weights", "set back to its own initial values"),
        ("0.00%", "ticket: its own initial weights", "were the ticket's initial weights"),
        ("5%", "ticket: its own weights, rewound", "to its own values after 5% of training"),
        ("2", "ticket: its own weights, rewound", "were the ticket's weights after 2 epochs"),
    ):
        legend, page = of(early)
        assert label in legend
        assert meaning in page
    _, page = of("0", method="supermask")  # whose weights are never trained
    assert "mask was found in one training from its own initial values" in page
    assert "trained again" not in page


def test_learning_curves_are_drawn_per_arm_at_chosen_levels(summary):
    figure = learning_figure(summary)
    grid = np.reshape(figure.axes, (3, -1))
    assert [axes.get_title(loc="left") for axes in grid[0]] == ["49.6% sparsity", "74.6% sparsity"]
    for row, expected in zip(grid, ([60, 70, 80], [1, 1 / 2, 1 / 3], [0.7] * 3), strict=True):
        for axes in row:
            lines = axes.get_lines()
            assert len(lines) == 5  # dense, ticket and three controls
            for line in lines:
                np.testing.assert_allclose(line.get_ydata(), expected)
                assert list(line.get_xdata()) == [20, 40, 60]  # 60 steps in 3 epochs
    assert "Training steps" in texts(figure)


def test_a_run_of_dense_networks_has_no_empty_titles_or_levels():
    rows = [record(arm="dense", seed=s, level=0, target_sparsity=0.0, accuracy=0.8 + s / 100)
            for s in range(2)]  # fmt: skip
    found = figures_of(summarize(rows, curves=curves(rows)))
    assert set(found) == {"learning"}  # one score is no curve against sparsity
    said = texts(found["learning"])
    assert "iterative" not in said
    assert "one-shot" not in said
    assert "sparsity" not in said


def test_breakdowns_that_were_not_reached_are_arrows():
    flat = [dataclasses.replace(row, accuracy=0.8) for row in plausible_run(seeds=2, levels=2)]
    axes = breakdown_figure(summarize(flat)).axes[0]
    markers = {line.get_marker() for line in axes.get_lines()}
    assert ">" in markers
    assert "o" not in markers


def test_settings_that_are_no_grid_have_figures_of_their_own():
    rows = plausible_run(seeds=2, levels=1)
    other = [dataclasses.replace(row, mask_from="elsewhere", row_id=row.row_id + "/b")
             for row in rows]  # fmt: skip
    found = figures_of(summarize(rows + other))
    assert {"accuracy", "accuracy_2", "gap", "gap_2"} <= set(found)
    deeper = [dataclasses.replace(row, settings={**row.settings, "num_layers": 4}) for row in other]
    names = {one["name"] for one in summarize(rows + deeper)["configurations"]}
    assert names == {"end of training, 2 layers", "elsewhere, 4 layers"}

    def moved(source, layers):
        return [
            dataclasses.replace(row, mask_from=f"tickets of {source} (12ab)",
                                row_id=f"{row.row_id}/{source}/{layers}",
                                settings={**row.settings, "num_layers": layers})
            for row in rows
        ]  # fmt: skip

    names = {one["name"] for one in summarize(moved("A", 4) + moved("B", "2x64"))["configurations"]}
    assert names == {"tickets of A, on 4 layers", "tickets of B, on num layers 2x64"}


# The page.


class Checker(HTMLParser):
    """Collects tags and text, and fails where tags do not close in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.text = io.StringIO()
        self.folded = io.StringIO()
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
        if "details" in self.open:
            self.folded.write(data)


@pytest.mark.parametrize("which", ["summary", "grid", "retrained"])
def test_page_is_whole_and_self_contained(which, request):
    summary = request.getfixturevalue(which)
    images = {name: b"png of " + name.encode() for name in figures_of(summary)}
    settings = {"num_layers": 2, "levels": [0.5, 0.9]}
    page = report_html(summary, images, settings, {"jax": "0.5.0"})
    checked = Checker(page)
    text = checked.text.getvalue()
    if summary["headline"]:
        assert summary["headline"]["sentence"] in text
        assert text.index(summary["headline"]["sentence"]) < text.index("Settings")
    for part in ("num_layers", "0.5, 0.9", "0.5.0", "How to read this"):
        assert part in text
    assert page.count("data:image/png;base64,") == len(images)
    for tag, attributes in checked.tags:
        assert tag not in {"script", "link", "iframe", "object"}
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src", "data:").startswith("data:")
        assert "href" not in attributes
    assert "url(" not in page
    assert "@import" not in page
    assert page == report_html(summary, images, settings, {"jax": "0.5.0"})


def test_the_page_begins_with_one_verdict_then_story_figure_table_measure(summary):
    page = report_html(summary, {"accuracy": b"x"}, {}, {})
    headline = summary["headline"]
    assert page.count("class=verdict") == 1
    order = ["class=verdict", headline["story"], headline["sentence"][:40], "data:image/png",
             "Accuracy at every sparsity", "The measure"]  # fmt: skip
    places = [page.index(part) for part in order]
    assert places == sorted(places)
    comparison = summary["configurations"][0]["checkpoints"]["last"]["comparisons"]["reinit"]
    assert len(comparison["without"]) > 1
    for part in comparison["without"]:
        row = (
            f"<td>without {round(100 * part['left_out'], 1):g}%</td><td>{part['gap']['mean']:+.2f}"
        )
        assert row in page


def test_a_grid_puts_its_main_finding_first(grid):
    text = Checker(report_html(grid, {}, {}, {})).text.getvalue()
    first = text.index(grid["headline"]["sentence"])
    assert first < text.index("All configurations")
    for test in grid["factor_tests"]:
        assert first < text.index(test["sentence"])


def test_terms_are_explained_before_the_first_table(summary):
    text = Checker(report_html(summary, {}, {}, {})).text.getvalue()
    before = text[: text.index("Accuracy at every sparsity")]
    verdict = text.index(summary["headline"]["sentence"])
    for meaning in ("sparsity is the share of weights removed", "The ticket is what remains",
                    "In reinit the same weights remain"):  # fmt: skip
        assert text.index(meaning) < verdict
    before = " ".join(before.split())
    for meaning in (
        "All weights are removed at once",
        "which weights are kept is shuffled",
        "One of the kinds",
        "just as many weights are kept at random",
        "One start of the random",
    ):
        assert meaning in before


def test_settings_at_their_default_are_folded_away(summary):
    settings = {"epochs": "7", "alpha": "0.05", "arms": "ticket,reinit", "dense_only": "false"}
    defaults = {"epochs": 5, "alpha": 0.05, "arms": ("ticket", "reinit"), "dense_only": False}
    checked = Checker(report_html(summary, {}, settings, {}, defaults))
    folded, text = checked.folded.getvalue(), checked.text.getvalue()
    folded = folded[folded.index("Settings at their default") :]
    assert "epochs" in text[text.index("differs from the default") :]
    assert "epochs" not in folded
    assert all(name in folded for name in ("alpha", "arms", "dense_only"))


def test_classes_have_recall_f1_and_a_confusion_matrix(summary):
    classes = {
        "confusion": [[4 / 12, 0, 0], [1 / 12, 3 / 12, 0], [1 / 12, 1 / 12, 2 / 12]],
        "recall": [100.0, 75.0, 50.0],
        "f1": [80.0, 75.0, 66.66666],
        "macro_f1": 73.88888,
    }
    one = summary["configurations"][0]
    table = [{**cell, "classes": classes if cell["arm"] == "dense" else None}
             for cell in one["checkpoints"]["last"]["table"]]  # fmt: skip
    last = {**one["checkpoints"]["last"], "table": table}
    found = {**summary, "configurations": [{**one, "checkpoints": {"last": last}}]}
    provenance = {"data": {"classes": {"bad": 4, "so so": 4, "good": 4}, "unknown": {"test": 0.1}}}
    page = report_html(found, {}, {}, provenance)
    for row in ("<td>true good</td><td>8.3</td><td>8.3</td><td>16.7</td>", "<th>recall so so</th>",
                "<th>F1 good</th>", "<td>73.9</td>", "<td>100.0</td><td>75.0</td><td>50.0</td>",
                "<td>classes: so so</td><td>4</td>",
                "<td>unknown: test</td><td>0.1</td>"):  # fmt: skip
        assert row in page
    nameless = report_html(found, {}, {}, {})
    assert "<td>true class 2</td>" in nameless


@pytest.mark.parametrize(
    "data",
    [None, "words", [], {}, {"classes": 3}, {"classes": None, "deep": {"a": {"b": [1, {}]}}}],
)
def test_any_account_of_the_data_is_shown(summary, data):
    Checker(report_html(summary, {}, {}, {"data": data}))


def test_nested_values_are_rows_with_the_names_above():
    assert pairs({"a": {"b": {"c": 1234}, "d": [1, 2]}, "e": None, "f": 0.30000001}) == [
        ["a: b: c", "1,234"], ["a: d", "1, 2"], ["e", "–"], ["f", "0.3"],
    ]  # fmt: skip


@pytest.mark.slow
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
    images = pictures(found)
    page = report_html(found, images, {}, {})
    assert page.count("data:image/png;base64,") == len(images)
    assert images or not found["configurations"][0]["levels"]  # one score is no picture
    Checker(page)
    plain = re.sub(r"base64,[^\"]*", "", page)
    assert not re.search(r"\b(nan|None)\b", plain)


def test_hostile_text_is_escaped():
    rows = plausible_run(seeds=2, levels=2, dataset=HOSTILE, experiment=HOSTILE)
    rows = [
        dataclasses.replace(
            row,
            row_id=HOSTILE + row.row_id,
            connected=False,
            arm=row.arm if row.arm != "random" else HOSTILE,
            diverged_epoch=1,
        )
        for row in rows
    ]
    found = summarize(rows)
    data = {HOSTILE: HOSTILE, "classes": [HOSTILE, "b"]}
    page = report_html(
        found, {HOSTILE: b"x"}, {HOSTILE: HOSTILE}, {HOSTILE: [HOSTILE], "data": data}, {HOSTILE: 1}
    )
    checked = Checker(page)
    assert "script" not in [tag for tag, _ in checked.tags]
    assert "<script" not in page
    assert checked.text.getvalue().count("alert('x')") > 10
    for figure in figures_of(found).values():
        assert b"<script" not in figure_bytes(figure, "svg")


def test_a_metric_where_lower_is_better_has_its_own_words():
    rows = [
        dataclasses.replace(
            row, primary="perplexity", higher_is_better=False, majority_accuracy=None,
            metrics={"perplexity": 200 - 100 * row.accuracy},
        )
        for row in plausible_run(seeds=3, levels=4)
    ]  # fmt: skip
    lower = summarize(rows)
    assert not any(lower["configurations"][0]["checkpoints"]["last"]["breakdown"]["arms"].values())
    assert "breakdown" not in figures_of(lower)
    assert "most frequent class" not in texts(accuracy_figure(lower))
    drawn = texts(gap_figure(lower))
    assert "Control minus ticket\n(perplexity)" in drawn
    assert "points" not in drawn.replace("points: seeds", "")
    page = report_html(lower, {}, {}, {})
    for words in ("reinit minus ticket", "gap (perplexity)", "Perplexity at every sparsity"):
        assert words in page
    for words in ("gap (points)", "ticket minus reinit", "Where accuracy breaks"):
        assert words not in page
    alone = report_html(summarize([row for row in rows if row.arm == "dense"]), {}, {}, {})
    assert "% test" not in alone
    assert "test perplexity</strong>" in alone
