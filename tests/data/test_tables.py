"""Tables with any separator, with names of columns or without, quoted or not."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.data.tables import _lines, read_table
from lth_flax.errors import UserError

ROWS = [("a good, long film; really", "pos"), ("bad|dull", "neg"), ('he said "no"', "neg")]


def written(path, rows, **options):
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **options).writerows(rows)
    path.write_text(buffer.getvalue(), encoding="utf-8", newline="")
    return str(path)


def read(path, columns, **options):
    return [(text, label) for *_, text, label in read_table(str(path), columns, **options).rows]


@given(st.text(alphabet="a\r\n\x0b\u2028,"))
def test_lines_end_where_those_of_a_file_do(content):
    assert list(_lines(content)) == list(io.StringIO(content, newline=""))
    translated = [line.rstrip("\r\n") for line in _lines(content)]
    assert translated == [line.rstrip("\n") for line in io.StringIO(content, newline=None)]


def refused(path, columns, **options):
    with pytest.raises(UserError) as error:
        read(path, columns, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("columns", "header"), [(("text", "y"), True), (("1", "2"), False)])
def test_the_separator_is_found(tmp_path, delimiter, ending, columns, header):
    rows = [(str(n), *row) for n, row in enumerate(ROWS)]
    head = [("", "text", "y")] if header else []
    path = written(tmp_path / "t.csv", head + rows, delimiter=delimiter, lineterminator=ending)
    assert read(path, columns) == ROWS
    # Found by the columns, or given.
    assert read(path, columns, separator=delimiter) == ROWS


def test_of_two_separators_that_fit_labels_tell(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a\tb,x\nc\td,y\ne\tf,x\ng\th,y\n")
    assert read(path, ("0", "1"))[0] == ("a\tb", "x")
    path.write_text("a,b\tx\nc,d\ty\ne,f\tx\ng,h\ty\n")
    assert read(path, ("0", "1"))[0] == ("a,b", "x")


@pytest.mark.parametrize("columns", [("text", "text"), ("0", "0"), ("1", "01"), ("text", "0")])
def test_one_column_is_not_two(tmp_path, columns):
    path = tmp_path / "t.csv"
    path.write_text("text,label\nup,1\n")
    assert "both text and label" in refused(path, columns)


def test_blanks_around_names_of_columns_do_not_matter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("text, label \nup,1\ndown,0\n")
    assert read(path, ("text", "label")) == [("up", "1"), ("down", "0")]


@pytest.mark.parametrize(
    ("separator", "delimiter"),
    [("tab", "\t"), ("\\t", "\t"), ("comma", ","), ("semicolon", ";"), ("bar", "|"), ("^", "^")],
)
def test_a_separator_that_is_named(tmp_path, separator, delimiter):
    path = written(tmp_path / "t.csv", ROWS, delimiter=delimiter)
    assert read(path, ("0", "1"), separator=separator) == ROWS


def test_the_line_that_excel_writes_first(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=;\ntext;y\na, b;1\nc;0;\n")
    assert "line 4: 3 fields" in refused(path, ("text", "y"))
    path.write_text("sep=;\ntext;y\na, b;1\nc;0\n")
    assert read(path, ("text", "y")) == [("a, b", "1"), ("c", "0")]


@pytest.mark.parametrize("separator", ["", "::", '"', "\n"])
def test_separators_that_cannot_be(tmp_path, separator):
    path = written(tmp_path / "t.csv", ROWS)
    assert "--separator" in refused(path, ("0", "1"), separator=separator)


def test_quotes_in_tab_separated_lines_are_text_unless_they_are_quotes(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('"great" he said\t1\n"dull\t0\nbad "\t0\n5" of snow\t1\n')
    assert read(path, ("0", "1")) == [
        ('"great" he said', "1"), ('"dull', "0"), ('bad "', "0"), ('5" of snow', "1"),
    ]  # fmt: skip
    path.write_text('"he said ""no"""\t1\n"a, b"\t0\nc\t0\n')
    assert read(path, ("0", "1")) == [('he said "no"', "1"), ("a, b", "0"), ("c", "0")]
    path.write_text('"two\nlines"\t1\nb\t0\n')
    assert read(path, ("0", "1")) == [("two\nlines", "1"), ("b", "0")]


def test_columns_by_number(tmp_path):
    path = written(tmp_path / "t.csv", [("1", "x", "a b"), ("0", "y", "c d")])
    assert read(path, ("2", "0")) == [("a b", "1"), ("c d", "0")]
    message = refused(path, ("2", "3"))
    assert "no column 3" in message
    assert "numbered from 0" in message
    # pandas without names writes the numbers as names.
    numbered = written(tmp_path / "n.csv", [("0", "1"), ("a", "pos"), ("b", "neg")])
    assert read(numbered, ("0", "1")) == [("a", "pos"), ("b", "neg")]
    assert read_table(numbered, ("0", "1")).has_header
    # A number beside a name counts columns of a file that has names.
    named = written(tmp_path / "h.csv", [("", "y"), ("a", "pos"), ("b", "neg")])
    assert read(named, ("0", "y")) == [("a", "pos"), ("b", "neg")]


def test_lines_are_counted_as_an_editor_does(tmp_path):
    (tmp_path / "t.csv").write_text('text,y\n\n"two\nlines",a\nb,c\n')
    assert [row.line for row in read_table(str(tmp_path / "t.csv"), ("text", "y")).rows] == [3, 5]


def load(**options):
    return load_source(Config(dataset="csv", **{k: str(v) for k, v in options.items()}))


def of_split(source, official):
    return [t for t, inside in zip(source.texts, official, strict=True) if inside]


def test_train_development_and_test_files_without_names(tmp_path):
    """The layout of SST-2 and its kin."""
    parts = {"train": "", "dev": "", "test": ""}
    for part in parts:
        lines = [f'{part} "film" number {n} , it \'s fine\t{n % 2}' for n in range(10)]
        (tmp_path / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    source = load(
        data_file=tmp_path / "train.tsv", validation_file=tmp_path / "dev.tsv",
        test_file=tmp_path / "test.tsv", text_column=0, label_column=1,
    )  # fmt: skip
    assert source.class_names == ("0", "1")
    assert source.labels.tolist() == [0, 1] * 15
    for part, split in (("dev", "validation"), ("test", "test")):
        texts = of_split(source, source.official[split])
        assert len(texts) == 10
        assert all(text.startswith(f'{part} "film"') for text in texts)
    assert [path.name for path in source.files] == ["train.tsv", "dev.tsv", "test.tsv"]


def test_latin_1_with_quoted_columns_and_no_names(tmp_path):
    """The layout of Sentiment140: label, number, date, query, user, text."""
    lines = [
        f'"{4 * (n % 2)}","{n}","Mon Apr 06 22:19:45 PDT 2009","NO_QUERY","user{n}",'
        f'"@user caf\xe9 n\xb0 {n}, it\x92s ""fine"""'
        for n in range(6)
    ]
    (tmp_path / "t.csv").write_bytes("\r\n".join(lines).encode("latin-1"))
    options = {"data_file": tmp_path / "t.csv", "text_column": 5, "label_column": 0}
    with pytest.raises(UserError, match="--encoding=cp1252"):
        load(**options)
    for encoding in ("latin-1", "cp1252"):
        source = load(**options, encoding=encoding)
        assert source.class_names == ("0", "4")
        assert source.texts[1] == '@user café n° 1, it’s "fine"'


def test_an_index_column_and_labels_as_words(tmp_path):
    rows = [("", "sentence", "sentiment")]
    rows += [(n, f"text, {n}", ("negative", "neutral", "positive")[n % 3]) for n in range(9)]
    path = written(tmp_path / "t.csv", rows)
    source = load(data_file=path, text_column="sentence", label_column="sentiment")
    assert source.class_names == ("negative", "neutral", "positive")
    assert source.texts[4] == "text, 4"
    assert source.labels.tolist() == [0, 1, 2] * 3


def test_names_that_are_read_as_data_are_found_out(tmp_path):
    for name in ("train", "dev"):
        written(tmp_path / f"{name}.csv", [("text", "label"), ("a", 1), ("b", 0), ("c", 1)])
    options = {"data_file": tmp_path / "train.csv", "text_column": 0, "label_column": 1}
    for more in ({}, {"validation_file": tmp_path / "dev.csv"}):
        with pytest.raises(UserError, match="line 1: 'label'.*if the line names the columns"):
            load(**options, **more)


def test_one_file_is_not_two_splits(tmp_path):
    path = written(tmp_path / "t.csv", ROWS)
    with pytest.raises(UserError, match="given as --data_file and as --test_file"):
        load(data_file=path, test_file=path, text_column=0, label_column=1)


def test_a_bad_line_is_named_with_its_own_file(tmp_path):
    good = written(tmp_path / "train.csv", [("a", 1), ("b", 0), ("c", 1), ("d", 0)])
    bad = written(tmp_path / "test.csv", [("a", 1), ("b", "")])
    with pytest.raises(UserError, match=r"test\.csv, line 2: no label"):
        load(data_file=good, test_file=bad, text_column=0, label_column=1)
    with pytest.raises(UserError, match=r"missing\.csv.*--validation_file"):
        load(
            data_file=good, validation_file=tmp_path / "missing.csv", text_column=0, label_column=1
        )
    # A class is one class in all files together.
    other = written(tmp_path / "other.csv", [("a", "1.0"), ("b", "0.0")] * 2)
    with pytest.raises(UserError, match="several spellings"):
        load(data_file=good, test_file=other, text_column=0, label_column=1)


@pytest.mark.parametrize(
    ("labels", "names"),
    [(["1.0", "0.0"], ("negative", "positive")), (["1.0", "0", "-1.0"], None)],
)
def test_tweet_labels_as_pandas_writes_them(tmp_path, labels, names):
    rows = [("Text", "Sentiment"), *((f"up {n}", label) for n, label in enumerate(labels))]
    path = written(tmp_path / "t.csv", rows)
    source = load_source(Config(dataset="financial_tweets", data_file=path))
    assert source.class_names == (names or ("negative", "neutral", "positive"))
