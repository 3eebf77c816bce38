"""flags.txt, read without knowing the flags."""

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
