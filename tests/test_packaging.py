"""What says which version this is says the same."""

import re
from pathlib import Path

import lth_flax

ROOT = Path(__file__).resolve().parents[1]


def test_one_version_everywhere():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^version: (\S+)$", citation, re.M) == [lth_flax.__version__]
    assert re.findall(r"^## ([0-9.]+)", changes, re.M)[0] == lth_flax.__version__


def test_the_licence_is_the_one_that_is_named():
    assert (
        "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()
    )
    for name in ("CITATION.cff", "pyproject.toml"):
        assert "Apache-2.0" in (ROOT / name).read_text(encoding="utf-8")
