"""flags.txt, read without knowing the flags."""

import pytest

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.flagfile import differences, lines_by_name, value_of

TEXT = """# python -m lth_flax.experiments.winning_ticket
--dropout=0.1
--nokeep_mask
--progress
--grid=a=1,2
--grid=b=3
--text_key=
stray
"""


def test_lines_have_names_and_values():
    lines = lines_by_name(TEXT)
    assert {name: value_of(line) for name, line in lines.items()} == {
        "dropout": "0.1",
        "keep_mask": "false",
        "progress": "true",
        "grid": "a=1,2 b=3",
        "text_key": "",
    }
    assert lines["grid"] == "--grid=a=1,2\n--grid=b=3"
    assert value_of(None) == "unset"


def test_differences_are_named_in_order():
    one = lines_by_name("--dropout=0.1\n--keep_mask\n--work_dir=a\n--levels=0.5\n")
    other = lines_by_name("--dropout=0.1\n--nokeep_mask\n--work_dir=b\n--rounds=2\n")
    assert differences(one, other, apart_from=["work_dir"]) == [
        ("keep_mask", "true", "false"),
        ("levels", "0.5", "unset"),
        ("rounds", "unset", "2"),
    ]
    assert differences(one, dict(one), apart_from=[]) == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])  # as Windows saves it
def test_a_byte_order_mark_is_no_flag(tmp_path, encoding):
    text = "# Ein Versuch für Käthe.\n\n// So.\n  --epochs=7  \n--noprogress\n"
    (tmp_path / "a.flags").write_text(text, encoding=encoding)
    config = cli.parse(Config, ["--epochs=3", f"--flagfile={tmp_path / 'a.flags'}"])
    assert (config.epochs, config.progress) == ((7,), False)


def test_flagfiles_stand_where_they_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "outer.flags").write_text("--epochs=1\n--flagfile=~/inner.flags\n--batch_size=8\n")
    (tmp_path / "inner.flags").write_text("--epochs=2\n--batch_size=4\n")
    config = cli.parse(Config, ["--flagfile", "~/outer.flags", "--num_seeds=3"])
    assert (config.epochs, config.batch_size, config.num_seeds) == ((2,), 8, 3)
    (tmp_path / "inner.flags").write_text("--flagfile=~/outer.flags\n")
    with pytest.raises(UserError, match="names itself"):
        cli.parse(Config, ["--flagfile=~/outer.flags"])
