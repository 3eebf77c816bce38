"""What is recorded under experiments/ is what the code says of its records now."""

import csv
import json
import math

import pytest
from remake_records import EXPERIMENTS, PAGES, TABLES, options, recorded, with_answers

from lth_flax.analysis import report
from lth_flax.analysis.claims import claims_page, judge
from lth_flax.analysis.evidence import Evidence
from lth_flax.records import csv_text

REMAKE = "if that is meant, make all of them again with: python tests/remake_records.py"


def answers(directory):
    files = [*directory.glob("summary*.json"), *directory.glob("comparison*.json")]
    return {file.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def differences(there, now, where=""):
    """The places where two JSON values differ by more than how a Python version rounds a sum."""
    if isinstance(there, dict) and isinstance(now, dict):
        for key in sorted(there.keys() | now.keys()):
            yield from differences(there.get(key), now.get(key), f"{where}/{key}")
    elif isinstance(there, list) and isinstance(now, list) and len(there) == len(now):
        for number, pair in enumerate(zip(there, now, strict=True)):
            yield from differences(*pair, f"{where}/{number}")
    elif isinstance(there, float) and isinstance(now, float):
        if not math.isclose(there, now, rel_tol=1e-9, abs_tol=1e-12):
            yield f"{where} ({there} there, {now} now)"
    elif type(there) is not type(now) or there != now:
        yield f"{where} ({str(there)[:40]} there, {str(now)[:40]} now)"


def test_there_are_records():
    assert len(recorded()) >= 12


@pytest.mark.parametrize("directory", recorded(), ids=lambda directory: directory.name)
def test_the_records_give_the_recorded_answers(directory, tmp_path, monkeypatch, capsys):
    # Everything but the figures, whose bytes are those of a version of matplotlib.
    monkeypatch.setattr(report, "_write_figures", lambda *_: {})
    assert report.main([str(directory), f"--out={tmp_path}", *options(directory)]) == 0
    now = answers(tmp_path)
    assert now
    found = list(differences(answers(directory), now))
    assert not found, f"{directory.name}: {'; '.join(found[:5])}; {REMAKE}"


def cells(text):
    """The rows of a table, numbers as such."""

    def value(cell):
        try:
            return float(cell)
        except ValueError:
            return cell

    return [list(map(value, row)) for row in csv.reader(text.splitlines())]


@pytest.mark.parametrize(
    "file",
    [file for name in TABLES for file in sorted(EXPERIMENTS.glob(f"*/{name}"))],
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_the_records_give_the_recorded_tables(file):
    lines = TABLES[file.name](file.parent)
    there, now = cells(file.read_text(encoding="utf-8")), cells(csv_text(lines[0]._fields, lines))
    assert not list(differences(there, now)), REMAKE


def test_the_page_of_claims_follows_from_the_recorded_answers():
    page = claims_page(EXPERIMENTS, judge(Evidence(EXPERIMENTS)))
    assert (EXPERIMENTS / "README.md").read_text(encoding="utf-8") == page, REMAKE


def test_readme_and_docs_say_what_the_records_say():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert with_answers(text) == text, f"{page}: {REMAKE}"
    assert with_answers("<!-- where: tweets_winning_ticket -->\n<!-- end -->").count("\n") > 8


def test_a_difference_would_be_found():
    there = {"a": [1.0, {"p": 0.25}], "n": 3, "none": None}
    assert list(differences(there, json.loads(json.dumps(there)))) == []
    now = {"a": [1.0 + 1e-12, {"p": 0.2500001}], "n": 3.0, "new": [1]}
    places = [line.partition(" ")[0] for line in differences(there, now)]
    assert places == ["/a/1/p", "/n", "/new"]
