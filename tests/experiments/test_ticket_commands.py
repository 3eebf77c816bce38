"""`export` and `predict`, from arguments to lines and files; bad input is one line and status 2."""

import csv
import io
import sys

import numpy as np
import pytest
from made_tickets import CLASSES, make_ticket

from lth_flax import cli
from lth_flax.config import Config, ExportConfig, PredictConfig, settings_of
from lth_flax.experiments import export, predict
from lth_flax.tickets import load_ticket, save_ticket


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tickets") / "one"
    save_ticket(directory, make_ticket(layers=1, structured=True))
    return directory


def run(monkeypatch, capsys, command, arguments, stdin=""):
    """(exit status, standard output, standard error)."""
    configs = {export: (ExportConfig, "export", None), predict: (PredictConfig, "predict", "texts")}
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    monkeypatch.setattr(command, "configure_jax", lambda config, devices: "")
    monkeypatch.setattr(cli.interrupt, "install", lambda: None)
    monkeypatch.setattr(cli, "quiet_process", lambda: None)
    status = 0
    try:
        cli.run(command.main, *configs[command])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    return status, out, err


TEXTS = ["a good film", "not good, a bad wonder"]


def test_texts_are_arguments_lines_or_a_column(monkeypatch, capsys, place, tmp_path):
    expected = load_ticket(place).predict(TEXTS)
    table = tmp_path / "texts.csv"
    with open(table, "w", newline="") as file:
        csv.writer(file).writerows([["number", "words"], *enumerate(TEXTS)])
    ways = [
        ([f"--ticket={place}", *TEXTS], ""),
        ([TEXTS[0], f"--ticket={place}", TEXTS[1]], ""),
        ([f"--ticket={place}"], "\n".join(TEXTS)),
        ([f"--ticket={place}", f"--data_file={table}", "--text_column=words"], ""),
    ]
    outputs = set()
    for arguments, stdin in ways:
        status, out, err = run(monkeypatch, capsys, predict, arguments, stdin)
        assert status == 0
        assert err == "1 of 9 words are unknown to the ticket: wonder\n"
        outputs.add(out)
    (out,) = outputs
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == [one.label for one in expected]
    for line, one in zip(lines, expected, strict=True):
        for name, share in one.probabilities.items():
            assert f"{name} {share:.4f}" in line


def test_a_table_of_answers(monkeypatch, capsys, place):
    _, out, _ = run(
        monkeypatch, capsys, predict, [f"--ticket={place}", "--output=csv", "--", "-good", ""]
    )
    rows = list(csv.DictReader(io.StringIO(out)))
    expected = load_ticket(place).predict(["-good", ""])
    assert [row["label"] for row in rows] == [one.label for one in expected]
    assert list(rows[0]) == ["label", *CLASSES]
    for row, one in zip(rows, expected, strict=True):
        np.testing.assert_allclose(
            [float(row[name]) for name in CLASSES], list(one.probabilities.values()), atol=1e-6
        )


def test_what_compaction_saves_is_printed_and_files_are_named(monkeypatch, capsys, place, tmp_path):
    arguments = [f"--ticket={place}", "--format=npz", f"--out={tmp_path / 'out'}", "--compact"]
    status, out, _ = run(monkeypatch, capsys, export, arguments)
    assert status == 0
    assert "units (forward+backward, per layer): 3+3 => 2+2" in out
    assert "features of a word vector: 4 => 2 (2.0 times fewer)" in out
    assert "milliseconds per text" in out
    assert f"{tmp_path / 'out' / 'weights.npz'}: " in out
    with np.load(tmp_path / "out" / "weights.npz") as arrays:
        assert arrays["lstm_0/forward/recurrent_kernel"].shape == (2, 8)


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (predict, ["good"], "--ticket is missing"),
        (predict, ["--ticket=PLACE"], "there is no text"),
        (predict, ["--ticket=PLACE", "good", "--data_file=x.csv"], "expected one of them"),
        (predict, ["--ticket=PLACE", "--text_column=a", "good"], "--text_column names a column"),
        (predict, ["--ticket=PLACE", "--data_file=none.csv", "--text_column=a"], "none.csv"),
        (predict, ["--ticket=PLACE", "--data_file=none.csv"], "--text_column is missing"),
        (predict, ["--ticket=nowhere", "good"], "nowhere is no ticket"),
        (predict, ["--ticket=PLACE", "--output=xml", "good"], "expected one of text, csv"),
        (predict, ["--ticket=PLACE", "--epochs=3", "good"], "--epochs means nothing"),
        (export, ["--ticket=PLACE"], "--out is missing"),
        (export, ["--out=there"], "--ticket is missing"),
        (export, ["--ticket=PLACE", "--out=there", "--format=pt"], "expected one of torch, onnx"),
        (export, ["--ticket=PLACE", "--out=PLACE/ticket.json/x"], "cannot be made"),
        (export, ["--ticket=PLACE", "--out=there", "--weights=best"], "one of trained, initial"),
        (export, ["--ticket=PLACE", "--out=there", "extra"], "unexpected argument 'extra'"),
    ],
)
def test_bad_input_is_one_line(monkeypatch, capsys, place, command, arguments, says):
    given = [argument.replace("PLACE", str(place)) for argument in arguments]
    status, out, err = run(monkeypatch, capsys, command, given)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert says in err
    assert err.count("\n") == 1


def test_help_names_the_flags_of_a_ticket_alone():
    for command, config, name in (
        (export, ExportConfig, "export"), (predict, PredictConfig, "predict"),
    ):  # fmt: skip
        text = cli.help_text(command.main, config, name)
        named = [name for name in settings_of(Config) if f"--{name}\n" in text]
        assert "ticket" in named
        assert "epochs" not in named
