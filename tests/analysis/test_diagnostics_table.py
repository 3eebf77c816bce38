"""Diagnostics of masked networks: in records, in the summary, on the page."""

import numpy as np
from analysis_fakes import dense, record

from lth_flax.analysis.page import report_html
from lth_flax.analysis.summary import summarize
from lth_flax.records import read_records, write_records


def test_the_page_has_means_over_places_and_runs():
    rows = [dense(seed) for seed in (0, 1)]
    for seed, dead in ((0, 0.25), (1, 0.5)):
        numbers = {"dead_units/lstm_0/forward": dead, "dead_units/lstm_0/backward": 0.0,
                   "singular_value/lstm_0/forward": float("nan")}  # fmt: skip
        rows += [record(seed=seed, diagnostics=numbers), record(seed=seed, arm="reinit")]
    assert "diagnostics" not in summarize(rows[:1])["configurations"][0]
    summary = summarize(rows)
    (one,) = summary["configurations"][0]["diagnostics"]
    assert one == {"arm": "ticket", "target_sparsity": 0.5, "mean": {"dead_units": 0.1875}}
    page = report_html(summary, {}, {}, {})
    assert "<th>dead units</th>" in page
    assert "<td>0.188</td>" in page


def test_records_hold_them(tmp_path):
    row = record(diagnostics={"dead_units/lstm_0/forward": 0.25, "x/y": float("nan")})
    write_records(tmp_path / "records.csv", [row])
    (found,) = read_records(tmp_path / "records.csv")
    assert found.diagnostics["dead_units/lstm_0/forward"] == 0.25
    assert np.isnan(found.diagnostics["x/y"])
