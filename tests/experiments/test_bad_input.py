"""Bad input is one line that helps, exit status 2, and nothing written."""

import os
from pathlib import Path

import commands
import pytest

from lth_flax import cli
from lth_flax.config import Config, SweepConfig, settings_of
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.experiments import winning_ticket
from lth_flax.runs.workdir import open_work_dir
from lth_flax.tickets import load_ticket

COMMAND = "lth_flax.experiments.winning_ticket"
SMALL = ["--synthetic_size=200", "--hidden_size=4", "--embedding_size=4", "--num_seeds=2"]
TWEETS = "Text,Sentiment\n" + "".join(f"tweet {n},{n % 2}\n" for n in range(60))


def config_of(*arguments):
    """The settings of a small run."""
    return cli.parse(Config, [*SMALL, *arguments])


def snapshot(place):
    """Every file under it with its content, every folder with None."""
    return {
        path.relative_to(place): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


def check_line(message, *words):
    assert "\n" not in message.strip()
    assert "Traceback" not in message
    for word in words:
        assert word in message, message


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty current directory: default work directories would appear in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def refuse(place, monkeypatch):
    """Runs `winning_ticket` in this process; it must refuse with one line that has `words`."""
    # It chooses devices for the whole process; the tests have theirs.
    monkeypatch.setattr(winning_ticket, "configure_jax", lambda config: None)

    def run(arguments, *words):
        before = snapshot(place)
        with pytest.raises(UserError) as refused:
            winning_ticket.main(config_of("--cache_dir=", "--noprogress", *arguments))
        assert snapshot(place) == before
        check_line(str(refused.value), *words)

    return run


# The whole way through the command line. ----------------------------------------------

COMMAND_LINES = [
    (["--nosuchflag=1"], ["nosuchflag"]),
    (["--work_dir=full"], ["full", "not empty", "flags.txt"]),
    (["--schedule=sometimes"], ["schedule", "sometimes", "oneshot", "iterative"]),
    (["--epochs=many"], ["epochs", "many"]),
    (["--flagfile=missing.flags"], ["missing.flags"]),
    (["stray"], ["stray", "--name=value"]),
    (["--levels=0.5,1.5"], ["[0, 1)", "1.5", "--levels"]),
    (["--dataset=financial_tweets", "--data_file=missing.csv"], ["missing.csv", "--data_file"]),
]
# One is refused as flags are parsed, one by the command; the others are of the same two kinds.
COMMAND_LINES[2:] = [
    pytest.param(*case, marks=pytest.mark.exhaustive(sample=2)) for case in COMMAND_LINES[2:]
]


@pytest.mark.parametrize(("arguments", "words"), COMMAND_LINES, ids=lambda value: value[0])
def test_the_command_says_one_line_and_exits_with_2(arguments, words, place):
    (place / "full").mkdir()
    (place / "full" / "thesis.tex").write_text("years of work")
    before = snapshot(place)
    done = commands.run(COMMAND, *SMALL, "--cache_dir=", *arguments, cwd=place)
    assert done.returncode == 2
    # A size of synthetic texts is noted where they are not the data set.
    assert all(line.startswith("note: ") for line in done.stdout.splitlines())
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    check_line(done.stderr, *words)
    assert snapshot(place) == before


# Flags that only the experiment can judge. --------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arms=ticket,lottery"], ["lottery", "ticket, reinit, shuffled, random"]),
        (["--arms=reinit"], ["--arms", "ticket"]),
        (["--arms=ticket,reinit,ticket"], ["twice"]),
        (["--levels=-0.1,0.5"], ["-0.1", "[0, 1)"]),
        (["--levels=0.5,1"], ["1.0", "[0, 1)"]),
        (["--levels=nan"], ["--levels=nan", "finite numbers"]),
        (["--levels=0.5,0.5"], ["increase"]),
        (["--levels=0.8,0.5"], ["increase", "0.5", "0.8"]),
        (["--levels=0.5,0.50000001"], ["six digits", "0.50000001"]),
        (["--levels=1e-10,2e-10"], ["nine decimals", "2e-10"]),
        (["--levels=0.5,0.9999999999"], ["nine decimals", "0.9999999999"]),
        (["--levels=half"], ["half", "numbers"]),
        (["--levels="], ["levels"]),
        (["--levels=0.5", "--rounds=3"], ["--levels", "--rounds", "one of them"]),
        (["--rounds=0"], ["rounds", "1"]),
        (["--rounds=3", "--prune_rate=1"], ["prune_rate", "(0, 1)"]),
        (["--seeds=4"], ["--seeds=4", "START:STOP"]),
        (["--seeds=4:4"], ["--seeds=4:4", "START:STOP"]),
        (["--seeds=-1:4"], ["--seeds=-1:4", "START:STOP"]),
        (["--seeds=0:2000000000"], ["START:STOP", "at most 10000 seeds"]),
        (["--seeds=a:b"], ["--seeds=a:b", "START:STOP"]),
        (["--validation_share=0.6", "--test_share=0.4"], ["--validation_share", "below 1"]),
        (["--synthetic_size=201"], ["201", "even"]),
        (["--dataset=no_such_dataset"], ["no_such_dataset", "synthetic", "imdb_reviews"]),
        (["--dataset=../etc"], ["../etc", "synthetic", "imdb_reviews"]),
        (["--dataset=financial_tweets"], ["--data_file"]),
        (["--dataset=csv"], ["--data_file"]),
        (["--weight_decay=0.1"], ["adam has no weight_decay", "0.1", "adamw"]),
        (["--optimizer=adamw", "--momentum=0.5"], ["adamw has no momentum", "0.5", "sgd"]),
        (["--data_file=tweets.csv"], ["tweets.csv", "--dataset=financial_tweets"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_flags_that_cannot_be(arguments, words, refuse):
    refuse(arguments, *words)


NUMBERS = [name for name, setting in settings_of(SweepConfig).items() if setting.kind is float]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_finite(name, value):
    with pytest.raises(UserError, match=name):
        cli.parse(SweepConfig, [f"--{name}={value}"])
    with pytest.raises(UserError, match=name):
        SweepConfig(**{name: float(value)})


COUNTS = [name for name, setting in settings_of(SweepConfig).items() if setting.kind is int]


@pytest.mark.parametrize("name", COUNTS)
def test_counts_that_no_array_holds_are_refused(name):
    with pytest.raises(UserError, match=name):
        cli.parse(SweepConfig, [f"--{name}={10**31}"])


@pytest.mark.parametrize(
    "name", ["epochs", "num_layers", "batch_size", "hidden_size", "reinit_draws", "num_seeds"]
)
def test_counts_that_would_fill_the_memory_are_refused(name):
    with pytest.raises(UserError, match=name):
        cli.parse(SweepConfig, [f"--{name}={10**6}"])


@pytest.mark.parametrize("value", ["a\0b", "a\nb", "a\n", "a\u2028b", "\udcff"])
@pytest.mark.parametrize("name", ["work_dir", "data_dir", "cache_dir", "text_column", "label_key"])
def test_text_is_one_line_without_nul(name, value):
    with pytest.raises(UserError, match=f"--{name}="):
        cli.parse(Config, [f"--{name}={value}"])
    with pytest.raises(UserError, match=name):
        Config(**{name: value})


def test_what_a_terminal_obeys_is_not_printed(capsys):
    with pytest.raises(SystemExit):
        cli.fail("no text of class \x1b[31mred\x07,\ngive more")
    assert capsys.readouterr().err == "error: no text of class \ufffd[31mred\ufffd, give more\n"


# Files. -------------------------------------------------------------------------------

TWEETS_FILE = ["--dataset=financial_tweets", "--data_file=data.csv"]
CSV_FILE = ["--dataset=csv", "--data_file=data.csv"]


@pytest.mark.parametrize(
    ("arguments", "content", "words"),
    [
        (TWEETS_FILE, b"text,sentiment\nup,1\n", ["'Text'", "'text'", "--text_column"]),
        (TWEETS_FILE, b"Text,Sentiment\nup,1\ndown,2\n", ["line 3", "'2'", "positive, negative"]),
        (TWEETS_FILE, b"Text,Sentiment\nup,1\nd\xe9j\xe0,0\n", ["line 3", "UTF-8"]),
        (TWEETS_FILE, b"Text,Sentiment\nup,1\nup,up,0\n", ["line 3", "3 fields", "expected 2"]),
        (TWEETS_FILE, b"Text,Sentiment\n", ["no rows"]),
        (TWEETS_FILE, b"", ["'Text'", "none"]),
        (CSV_FILE, b"a,b\nup,1\n", ["--text_column", "--label_column"]),
        ([*CSV_FILE, "--text_column=a", "--label_column=c"], b"a,b\nup,1\n", ["'c'", "'a', 'b'"]),
        ([*CSV_FILE, "--text_column=a", "--label_column=b"], b"a,b\nup,\n", ["line 2", "no label"]),
        ([*CSV_FILE, "--text_column=a", "--label_column=b"], b"a,b\nup,1\n", ["two classes"]),
    ],
    ids=[
        "wrong columns", "bad label", "not UTF-8", "too many fields", "no rows", "empty file",
        "no columns named", "column not there", "no label", "one class",
    ],
)  # fmt: skip
def test_data_files_that_cannot_be(arguments, content, words, place, refuse):
    (place / "data.csv").write_bytes(content)
    refuse(arguments, "data.csv", *words)


def test_too_few_texts_to_split(place, refuse):
    (place / "data.csv").write_text("Text,Sentiment\nup,1\ndown,0\n")
    refuse(TWEETS_FILE, "financial_tweets", "split", "no text of class", "2 texts in all")


def test_a_data_file_that_is_a_directory(place, refuse):
    (place / "data.csv").mkdir()
    refuse(TWEETS_FILE, "data.csv", "directory", "--data_file")


def test_a_data_file_that_may_not_be_read(place):
    (place / "data.csv").write_text(TWEETS)
    (place / "data.csv").chmod(0)
    user = os.geteuid()
    if user == 0:  # who may read every file, and may be another user
        os.seteuid(65534)
    try:
        with pytest.raises(UserError) as refused:
            load_source(Config(dataset="financial_tweets", data_file=str(place / "data.csv")))
    finally:
        os.seteuid(user)
    check_line(str(refused.value), "data.csv", "Permission denied", "--data_file")


def test_word_vectors_of_another_size(place, refuse):
    (place / "vectors.txt").write_text("good 0.1 0.2 0.3\nbad 0.1 0.2 0.3\n")
    refuse(["--embeddings_file=vectors.txt"], "vectors.txt", "line 1", "3 numbers", "expected 4")


def test_word_vectors_that_are_not_there(refuse):
    refuse(["--embeddings_file=vectors.txt"], "vectors.txt", "No such file")


# Work directories. --------------------------------------------------------------------


def test_a_work_directory_of_other_flags_names_them(refuse):
    open_work_dir("run", COMMAND, config_of("--dropout=0.5", "--levels=0.5"))
    arguments = ["--work_dir=run", "--levels=0.5"]
    refuse([*arguments, "--dropout=0.2"], "run", "--dropout (0.5 there, 0.2 now)")
    refuse([*arguments, "--dropout=0.5", "--freeze_embeddings"], "--freeze_embeddings (false")
    refuse(
        ["--work_dir=run", "--rounds=2", "--num_seeds=3"],
        "--levels (0.5 there, unset now)",
        "--rounds (unset there, 2 now)",
        "--num_seeds (2 there, 3 now)",
    )


def test_where_and_how_a_run_works_may_change(place):
    open_work_dir("run", COMMAND, config_of("--replicates=map"))
    before = snapshot(place)
    config = config_of("--replicates=vmap", "--noprogress", "--rows_per_program=4")
    assert open_work_dir("run", COMMAND, config) == Path("run")
    assert snapshot(place) == before


@pytest.mark.parametrize(
    "name", [".DS_Store", "log.txt", "lost+found", "Thumbs.db", "nohup.out", "run.log", ".nfs01"]
)
def test_what_others_leave_in_a_work_directory_does_no_harm(place, name):
    (place / "run").mkdir()
    make = Path.mkdir if name == "lost+found" else Path.touch
    make(place / "run" / name)
    assert open_work_dir("run", COMMAND, config_of()) == Path("run")
    assert {path.name for path in (place / "run").iterdir()} == {name, "flags.txt"}
    assert open_work_dir("run", COMMAND, config_of()) == Path("run")


def test_a_work_directory_of_another_command(refuse):
    open_work_dir("run", "lth_flax.experiments.retrain_ticket", config_of())
    refuse(["--work_dir=run"], "run", "retrain_ticket", "another directory")


def test_a_work_directory_that_is_a_file(place, refuse):
    (place / "run").write_text("mine")
    refuse(["--work_dir=run"], "run", "is a file")


def test_a_work_directory_below_a_file(place, refuse):
    (place / "run").write_text("mine")
    refuse(["--work_dir=run/below"], "run/below", "directory")


def test_a_work_directory_with_flags_that_are_not_text(place, refuse):
    (place / "run").mkdir()
    (place / "run" / "flags.txt").write_bytes(b"\xff\xfe")
    refuse(["--work_dir=run"], "flags.txt", "UTF-8")


# Tickets. -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no ticket", "ticket.json"]),
        ("", ["JSON"]),
        ("[]", ["ticket"]),
        ('{"format_version": 99}', ["format_version", "99"]),
        ('{"format_version": 1}', ["damaged"]),
        ("[" * 100_000, ["JSON"]),
    ],
    ids=["no file", "empty", "a list", "another version", "nothing in it", "too deep"],
)
def test_a_directory_that_is_no_ticket(content, words, place):
    (place / "ticket").mkdir()
    if content is not None:
        (place / "ticket" / "ticket.json").write_text(content)
    before = snapshot(place)
    with pytest.raises(UserError) as refused:
        load_ticket(place / "ticket")
    check_line(str(refused.value), str(place / "ticket"), *words)
    assert snapshot(place) == before


def test_a_ticket_that_is_not_there_or_is_a_file(place):
    (place / "file").write_text("mine")
    for name in ("nowhere", "file"):
        with pytest.raises(UserError) as refused:
            load_ticket(place / name)
        check_line(str(refused.value), name, "no ticket")


@pytest.mark.parametrize("form", ["--flagfile={}", "-flagfile={}", "--flagfile {}"])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (os.mkfifo, ["not a plain file", "give a flagfile"]),
        (os.mkdir, ["Is a directory", "give a flagfile"]),
        (lambda path: Path(path).write_bytes(b"--epochs=2\n# caf\xe9\n"), ["line 2", "not UTF-8"]),
        (lambda path: None, ["cannot read", "No such file", "give a flagfile"]),
        (lambda path: Path(path).write_bytes(b"#" * 2**21), ["no flagfile", "at most"]),
    ],
)
def test_a_flagfile_that_is_none(place, form, make, words):
    make("odd.flags")
    before = list(place.iterdir())
    with pytest.raises(UserError) as refused:
        cli.parse(Config, form.format("odd.flags").split())
    check_line(str(refused.value), "odd.flags", *words)
    assert list(place.iterdir()) == before
