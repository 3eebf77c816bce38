"""Hundreds of generated bad inputs: each ends in success or in one line, and changes nothing.

Sound files are damaged byte by byte, or made up from what a format is made of.
`UserError` is what every command prints as one line before it exits with status 2.
"""

import contextlib
import datetime
import functools
import gzip
import itertools
import json
import operator
import os
import pickle
from pathlib import Path

import commands
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_tickets import make_ticket

from lth_flax import cli
from lth_flax.analysis import report
from lth_flax.config import Config
from lth_flax.data import imdb
from lth_flax.data.embeddings import read_vectors
from lth_flax.data.sources import load_source
from lth_flax.data.text import build_vocabulary, intern
from lth_flax.errors import UserError
from lth_flax.runs.choices import chosen_arms, chosen_levels, seed_block
from lth_flax.runs.workdir import open_work_dir
from lth_flax.tickets import load_ticket, save_ticket

ROOT = Path(__file__).resolve().parents[1]


def many(examples):
    return settings(
        max_examples=examples,
        # A hang would be an error here, not a wait.
        deadline=datetime.timedelta(seconds=30),
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )


@st.composite
def damages(draw, whole):
    """A sound file's bytes after one to four accidents."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        end = draw(st.integers(at, min(len(content), at + 64)))
        kind = draw(st.sampled_from(["flip", "cut", "delete", "insert", "repeat", "replace"]))
        if kind == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif kind == "cut":
            del content[at:]
        elif kind == "delete":
            del content[at:end]
        elif kind == "insert":
            content[at:at] = draw(st.binary(max_size=40))
        elif kind == "repeat":
            content[at:at] = content[at:end] * draw(st.integers(1, 20))
        else:
            content[at:end] = draw(st.sampled_from(NASTY))
    return bytes(content)


NASTY = [
    b"", b"\0", b"\n", b'"', b",", b"nan", b"-inf", b"1e999", b"9" * 400, b"-1", b"null", b"{}",
    b"\xff\xfe", b"\xef\xbb\xbf", b"../../etc/passwd", b"<script>alert(1)</script>", b"\r", b"--",
    b"[" * 3000, "\u202e\ud7ff\U0001f600".encode(), pickle.dumps(print),
]  # fmt: skip


def snapshot(place):
    return {
        path.relative_to(place): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


@contextlib.contextmanager
def success_or_one_line(place):
    """What happens inside may only succeed or raise one line, and leaves `place` as it was."""
    before = snapshot(place)
    try:
        yield
    except UserError as error:
        message = str(error)
        assert message
        assert "Traceback" not in message
        # The command joins lines; it must not have to hide pages.
        assert len(message) < 2000, message[:200]
    assert snapshot(place) == before


@pytest.fixture(scope="module")
def numbers():
    return itertools.count()


@pytest.fixture
def fresh(tmp_path, numbers):
    """A new empty directory at every call: examples must not see each other."""

    def make():
        place = tmp_path / str(next(numbers))
        place.mkdir()
        return place

    return make


# CSV files. ---------------------------------------------------------------------------

TWEETS = "Text,Sentiment\n" + "".join(
    f'"up, ""{n}"" http://t.co/{n} @you",{(1, -1)[n % 2]}\r\n' for n in range(12)
)


@pytest.mark.slow
@many(120)
@given(content=damages(TWEETS.encode()))
def test_damaged_tweets(fresh, content):
    place = fresh()
    (place / "data.csv").write_bytes(content)
    with success_or_one_line(place):
        source = load_source(Config(dataset="financial_tweets", data_file=str(place / "data.csv")))
        assert len(source.texts) == len(source.labels)
        assert set(source.labels) <= set(range(len(source.class_names)))


CELLS = st.one_of(
    st.text(max_size=30), st.sampled_from(["", "1", "0", "-1", "positive", 'a"b', "a,b", "\x00"])
)


@pytest.mark.slow
@many(80)
@given(
    rows=st.lists(st.lists(CELLS, max_size=4), max_size=8),
    separator=st.sampled_from([",", ";", "\t"]),
    columns=st.tuples(CELLS, CELLS),
)
def test_made_up_csv(fresh, rows, separator, columns):
    place = fresh()
    text = "\n".join(separator.join(row) for row in rows)
    (place / "data.csv").write_bytes(text.encode("utf-8", errors="surrogatepass"))
    with success_or_one_line(place):
        config = Config(
            dataset="csv", data_file=str(place / "data.csv"), text_column=columns[0],
            label_column=columns[1],
        )  # fmt: skip
        assert len(load_source(config).class_names) >= 2


# Flagfiles. ---------------------------------------------------------------------------

FLAGFILE = "\n".join(
    [
        "# A run.", "--dataset=synthetic", "--levels=0.2,0.5", "--arms=ticket,reinit",
        "--num_seeds=2", "--learning_rate=0.01", "--seeds=0:2", "--noprogress", "--epochs=3",
    ]
)  # fmt: skip


def parse_flagfile(place, content):
    (place / "a.flags").write_bytes(content)
    with success_or_one_line(place):
        config = cli.parse(Config, [f"--flagfile={place / 'a.flags'}"])
        chosen_levels(config)
        chosen_arms(config)
        seed_block(config)


@pytest.mark.slow
@many(100)
@given(content=damages(FLAGFILE.encode()))
def test_damaged_flagfiles(fresh, content):
    parse_flagfile(fresh(), content)


@pytest.mark.slow
@many(40)
@given(
    name=st.sampled_from(["levels", "arms", "seeds", "rounds", "prune_rate", "num_seeds", "alpha"]),
    value=st.one_of(st.text(max_size=20), st.floats().map(str), st.integers().map(str)),
)
def test_made_up_flag_values(fresh, name, value):
    line = f"--{name}={value}".encode("utf-8", errors="surrogatepass")
    parse_flagfile(fresh(), line)


@pytest.mark.slow
@many(40)
@given(content=damages(FLAGFILE.encode()))
def test_a_work_directory_with_damaged_flags(fresh, content):
    place = fresh()
    (place / "flags.txt").write_bytes(content)
    with success_or_one_line(place):
        open_work_dir(place, "lth_flax.experiments.winning_ticket", Config(num_seeds=2))


# Tickets. -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ticket_files(tmp_path_factory):
    """A sound ticket as {relative path: content}, and its digest."""
    path = tmp_path_factory.mktemp("sound") / "ticket"
    ticket = make_ticket()
    save_ticket(path, ticket)
    files = {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return files, ticket.digest


def write_files(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


@st.composite
def edits(draw, text):
    """A JSON text after one to three changes of what it says."""
    content = json.loads(text)
    for _ in range(draw(st.integers(1, 3))):
        *path, name = draw(st.sampled_from(list(places(content))))
        holder = functools.reduce(operator.getitem, path, content)
        kind = draw(st.sampled_from(["replace", "delete", "swap"]))
        if kind == "delete":
            del holder[name]
        elif kind == "replace":
            holder[name] = draw(JSON_VALUES)
        else:
            holder[name] = draw(st.sampled_from(list(json.loads(text).values())))
    return json.dumps(content).encode()


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def places(content, path=()):
    """The path of everything in a JSON value."""
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for name, inner in items:
        yield (*path, name)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, name))


@pytest.mark.slow
@many(400)
@given(data=st.data())
def test_damaged_tickets(fresh, ticket_files, data):
    """The bytes of any file, what ticket.json says, files that are missing or strange."""
    sound, digest = ticket_files
    files = dict(sound)
    kind = data.draw(st.sampled_from(["edit", "edit", "json", "any", "missing"]))
    # The JSON is one file of many, and the one that a stranger would write.
    (words,) = (name for name in files if name.name == "ticket.json")
    if kind == "edit":
        files[words] = data.draw(edits(files[words]))
    elif kind == "missing":
        kept = data.draw(st.sets(st.sampled_from(sorted(files)), min_size=len(files) - 3))
        files = {name: files[name] for name in kept}
    else:
        name = words if kind == "json" else data.draw(st.sampled_from(sorted(files)))
        files[name] = data.draw(damages(files[name]))
    place = fresh()
    write_files(place, files)
    if data.draw(st.integers(0, 9)) == 0:
        (place / "arrays").mkdir(exist_ok=True)
        os.symlink("/etc/passwd", place / "arrays" / "link")
    with success_or_one_line(place):
        # What loads all the same is what was saved: no wrong value is ever used.
        assert load_ticket(place).digest == digest


# Word vectors. ------------------------------------------------------------------------

WORDS = build_vocabulary(intern(["good bad up down " * 3]), np.arange(1), size=10, min_count=1)
VECTORS = b"3 4\n" + b"".join(
    word + b" 0.5 -1e-3 2 0.25\n" for word in (b"good", b"bad", b"other", b"up ward", b"down")
)


@pytest.mark.slow
@many(120)
@given(content=damages(VECTORS))
def test_damaged_word_vectors(fresh, content):
    place = fresh()
    (place / "vectors.txt").write_bytes(content)
    with success_or_one_line(place):
        vectors, found = read_vectors(place / "vectors.txt", WORDS, size=4)
        assert np.isfinite(vectors).all()
        assert not vectors[~found].any()


# TFDS directories. --------------------------------------------------------------------


@pytest.fixture(scope="module")
def tfds_files(tmp_path_factory):
    """imdb_reviews as prepared from a few reviews, as {relative path: content}."""
    import hashlib
    import io
    import tarfile

    place = tmp_path_factory.mktemp("tfds")
    with tarfile.open(place / imdb.ARCHIVE_NAME, "w:gz") as archive:
        kinds = [("train", "pos"), ("train", "neg"), ("train", "unsup"), ("test", "pos")]
        for (split, kind), number in itertools.product([*kinds, ("test", "neg")], range(3)):
            content = f"A {kind} film, number {number}.".encode()
            member = tarfile.TarInfo(f"aclImdb/{split}/{kind}/{number}_5.txt")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256((place / imdb.ARCHIVE_NAME).read_bytes()).hexdigest()
    imdb.prepare_imdb(place, sha256=digest)
    (place / imdb.ARCHIVE_NAME).unlink()
    return {p.relative_to(place): p.read_bytes() for p in place.rglob("*") if p.is_file()}


@pytest.mark.slow
@many(80)
@given(data=st.data())
def test_damaged_tfds_directories(fresh, tfds_files, no_download, data):
    name = data.draw(st.sampled_from(sorted(tfds_files)))
    if data.draw(st.integers(0, 3)):
        changed = {**tfds_files, name: data.draw(damages(tfds_files[name]))}
    else:
        changed = {other: content for other, content in tfds_files.items() if other != name}
    place = fresh()
    write_files(place, changed)
    with success_or_one_line(place):
        source = load_source(Config(dataset="imdb_reviews", data_dir=str(place)))
        assert set(source.labels) <= {0, 1}


@pytest.fixture
def no_download(monkeypatch):
    def refuse(*_, **__):
        raise UserError("no network here")

    monkeypatch.setattr(imdb.urllib.request, "urlopen", refuse)


# Records. -----------------------------------------------------------------------------


RECORDS = ROOT / "experiments" / "imdb_reference" / "records.csv.gz"


@pytest.mark.slow
@many(60)
@given(data=st.data())
def test_damaged_records(fresh, capsys, data):
    place = fresh()
    (place / "records.csv").write_bytes(data.draw(damages(gzip.decompress(RECORDS.read_bytes()))))
    for name in ("provenance.json", "flags.txt"):  # the records alone are enough
        if data.draw(st.booleans()):
            (place / name).write_bytes(data.draw(st.sampled_from(NASTY)))
    out = fresh()
    before = snapshot(place)
    assert report.main([str(place), f"--out={out / 'report'}"]) in (0, 2)
    assert snapshot(place) == before
    error = capsys.readouterr().err
    assert error.count("\n") <= 1
    assert "Traceback" not in error


@pytest.mark.parametrize(
    "options", [["--alpha=nan"], ["--alpha=5"], ["--alpha=0"], ["--margin=-1"], ["--margin=inf"]]
)
def test_levels_and_margins_that_cannot_be(fresh, capsys, options):
    place, out = RECORDS.parent, fresh()
    with pytest.raises(SystemExit) as ended:
        report.main([str(place), f"--out={out / 'report'}", *options])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (out / "report").exists()


def test_records_without_rows(fresh, capsys):
    place = fresh()
    header, *_ = gzip.decompress(RECORDS.read_bytes()).split(b"\n")
    (place / "records.csv").write_bytes(header + b"\n")
    assert report.main([str(place)]) == 2
    error = capsys.readouterr().err
    assert "no rows" in error
    assert error.count("\n") == 1
    assert [path.name for path in place.iterdir()] == ["records.csv"]


# A handful through the command line. --------------------------------------------------


@pytest.mark.exhaustive(sample=2)
@pytest.mark.parametrize("number", range(4))
def test_through_the_command_line(tmp_path, number, tfds_files, ticket_files):
    module, options, files = [
        ("winning_ticket", ["--dataset=financial_tweets", "--data_file=d.csv"],
         {"d.csv": TWEETS.encode().replace(b"1\r", b"7\r", 1)}),
        ("winning_ticket", ["--embeddings_file=v.txt", "--embedding_size=4"],
         {"v.txt": VECTORS.replace(b"bad 0.5", b"bad nan")}),
        ("retrain_ticket", ["--ticket=ticket"],
         {f"ticket/{name}": content[:-7] for name, content in ticket_files[0].items()}),
        ("winning_ticket", ["--dataset=imdb_reviews", "--data_dir=tfds"],
         {f"tfds/{name}": content[:-7] for name, content in tfds_files.items()}),
    ][number]  # fmt: skip
    write_files(tmp_path, files)
    before = snapshot(tmp_path)
    done = commands.run(f"lth_flax.experiments.{module}", "--cache_dir=", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert snapshot(tmp_path) == before
