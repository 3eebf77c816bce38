"""What the pages under docs/ show runs, and README stays short."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from made_tickets import make_ticket

from lth_flax.arms import ARMS
from lth_flax.pruning.scores import SCORES
from lth_flax.runs.methods import METHODS
from lth_flax.tickets import save_ticket

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = {"digits": 85, "gru": 80, "equinox": 80, "cartpole": 60, "linearized": 60}
"""Pages of docs/examples, and what their dense networks reach at least: far above chance."""


def test_readme_is_read_in_one_go():
    assert len((ROOT / "README.md").read_text(encoding="utf-8")) <= 8_000


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_every_file_that_a_page_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+?)\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link
    named = re.findall(r"(?<![\w/])(?:configs|tests|lth_flax)/[\w/]+\.(?:flags|py|json|csv)", text)
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_a_ticket_is_used_as_its_page_says(tmp_path, monkeypatch):
    """Block after block, in one program; what needs an extra is skipped where it is not there."""
    text = (ROOT / "docs" / "using_tickets.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # and taken back with what the page adds
    save_ticket("runs/quickstart/tickets/seed_0/level_0.9", make_ticket(structured=True))
    tokens = np.array([[2, 3, 4], [5, 1, 0], [0, 0, 0]])
    names = {"tokens": tokens, "lengths": np.array([3, 2, 0])}
    answers = {}
    for number, block in enumerate(blocks):
        needed = re.match("# needs (\\w+)", block)
        if needed:
            pytest.importorskip(
                "torch" if needed[1] == "PyTorch" else needed[1], reason="of the extra export"
            )
        elif "onnx" in block:
            pytest.importorskip("onnx", reason="of the extra export")
        exec(compile(block, f"using_tickets {number}", "exec"), names)
        if "logits" in names:
            logits = names.pop("logits")
            answers[number] = np.asarray(logits.detach() if hasattr(logits, "detach") else logits)
    ticket = names["ticket"]
    expected = ticket.model.apply({"params": ticket.trained_params}, tokens, names["lengths"])
    assert len(answers) == 3
    for found in answers.values():
        np.testing.assert_allclose(found, expected, atol=1e-5)
    sys.modules.pop("classifier", None)
    assert names["small"].model.widths == ((2, 2), (2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/own_network.md", "docs/language_models.md"])
def test_a_network_of_ones_own_has_a_verdict(page, capsys):
    text = (ROOT / page).read_text(encoding="utf-8")
    program, *_ = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(program, page, "exec"), {})
    # A difference is written so that more is better.
    assert re.search("ticket minus reinit|reinit minus ticket", capsys.readouterr().out)


@pytest.mark.exhaustive(sample=2)
@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "docs/examples").iterdir()))
def test_an_example_learns_and_has_a_verdict(page, capsys):
    text = (ROOT / "docs" / "examples" / f"{page}.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len([line for line in program.splitlines() if line]) <= 60
    needed = re.match("# needs (\\w+)", program)
    if needed:
        pytest.importorskip(needed[1], reason=f"could not import {needed[1]}: no extra brings it")
    names = {}
    exec(compile(program, page, "exec"), names)
    assert "ticket minus reinit" in capsys.readouterr().out
    dense = [r for r in names["result"].records if (r.arm, r.split) == ("dense", "test")]
    assert min(record.score for record in dense) > EXAMPLES[page]


@pytest.mark.slow
def test_the_notebook_goes_from_data_to_a_verdict_and_a_prediction(tmp_path):
    wanted = "needs the extra notebook: pip install 'lth_flax[notebook]'"
    nbformat = pytest.importorskip("nbformat", reason=wanted)
    nbclient = pytest.importorskip("nbclient", reason=wanted)
    pytest.importorskip("ipykernel", reason=wanted)
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.pop("outputs", None)  # what is found below was made here
        if cell.cell_type == "code":
            cell.outputs = []
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    client = nbclient.NotebookClient(
        notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "Ticket better: ticket minus reinit is +" in printed
    assert re.search(r"^(positive|negative) \(\d+%\): the food was good but", printed, re.M)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_scores_in_a_script_keep_the_share_that_was_asked_for(capsys):
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    scores, rigl = re.findall(r"```python\n(.*?)```", text, re.S)
    exec(compile(scores, "methods", "exec"), {})
    assert capsys.readouterr().out == "0.75 0.75\n"
    exec(compile(rigl, "methods", "exec"), {})
    assert capsys.readouterr().out == "0.75\n"


def test_every_score_and_arm_is_in_the_table_of_methods():
    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    assert rows >= {name for name in SCORES if not name.startswith("inverted_")}
    assert rows >= {*ARMS, *METHODS}
