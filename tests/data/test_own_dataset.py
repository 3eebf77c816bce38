"""A data set from outside the package: one function, given itself or by its name."""

import re
from pathlib import Path

import numpy as np
import pytest

import lth_flax as lth
from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.runs.provenance import identity_now

DOCS = Path(__file__).resolve().parents[2] / "docs"


def mine(config):
    texts = [f"text {n} {config.synthetic_size}" for n in range(60)]
    return lth.Source("mine", texts, np.arange(60) % 2, ["no", "yes"], {"test": np.arange(60) > 39})


def test_a_function_of_ones_own():
    task, examples = lth.text_classification(dataset=mine, hidden_size=3, num_seeds=2)
    assert examples.name == "mine"
    assert not examples.test_drawn
    assert sorted(examples.of(1, "test")["labels"].tolist()) == [0] * 10 + [1] * 10
    assert task.model.num_classes == 2


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The module of the page."""
    page = (DOCS / "data.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "my_data.py").write_text(program)
    monkeypatch.syspath_prepend(tmp_path)
    assert "--dataset=my_data:weather" in page
    return tmp_path / "my_data.py"


def test_by_its_name_on_the_command_line(module):
    config = cli.parse(Config, ["--dataset=my_data:weather"])
    source = load_source(config)
    assert len(source.texts) == 300
    assert np.bincount(source.labels).tolist() == [200, 100]
    assert source.official["test"].sum() == 60
    # A work directory knows the function, and flags.txt names it.
    code = identity_now(config, "winning_ticket", data="", files={})["code"]
    assert "my_data.weather" in code
    assert config.lines()["dataset"] == "--dataset=my_data:weather"


@pytest.mark.parametrize("name", ["my_data:nothing", "no_such_module:weather", "my_data:np"])
def test_a_name_that_is_none(module, name):
    with pytest.raises(UserError, match=f"dataset='{name}'.*expected one of synthetic"):
        Config(dataset=name)


SOUND = {"texts": ["a", "b"], "labels": [0, 1], "class_names": ["no", "yes"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"texts": [], "labels": []}, "one or more texts"),
        ({"texts": ["a", b"b"]}, "all of type str"),
        ({"class_names": ["no", 1]}, "all of type str"),
        ({"class_names": ["no"]}, "2 to 1000 different classes, found 1"),
        ({"class_names": ["no", "no"]}, "different classes"),
        ({"class_names": [str(n) for n in range(1001)]}, "found 1001"),
        ({"labels": [0, 2]}, "whole number from 0 to 1"),
        ({"labels": [0, -1]}, "whole number from 0 to 1"),
        ({"labels": [0.0, 1.0]}, "whole number from 0 to 1"),
        ({"labels": [0]}, "label of each text"),
        ({"official": {"dev": [True, False]}}, "test and validation"),
        ({"official": {"test": [True]}}, "true or false for each text"),
        ({"official": {"test": [0, 1]}}, "true or false for each text"),
        ({"official": {"test": [True, False], "validation": [True, False]}}, "in one of them"),
    ],
)
def test_what_does_not_fit_is_said(changes, words):
    lth.Source("odd", **SOUND)
    with pytest.raises(UserError, match=words):
        lth.Source("odd", **{**SOUND, **changes})


def test_what_is_no_source():
    with pytest.raises(UserError, match=r"test_own_dataset:.*gave tuple: expected a .*Source"):
        load_source(Config(dataset=lambda config: (["a"], [0])))
