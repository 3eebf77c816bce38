"""Tickets: what is saved comes back to the bit, and nothing else ever comes back."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from lth_flax import storage
from lth_flax.errors import UserError
from lth_flax.models.classifier import BiLSTMClassifier
from lth_flax.pruning.masks import full_mask
from lth_flax.tickets import Ticket, load_ticket, save_ticket

MODEL = {
    "vocabulary_size": 7,
    "embedding_size": 3,
    "hidden_size": 2,
    "num_layers": 2,
    "num_classes": 2,
    "dropout": 0.5,
}
METADATA = {
    "model": MODEL,
    "vocabulary": ["<pad>", "<unk>", "good", "plötzlich", "🙂"],
    "class_names": ["negative", "positive"],
    "dataset": "synthetic",
    "seed": 3,
    "level": 1,
    "target_sparsity": 0.5,
    "settings": {"epochs": 2, "learning_rate": 0.003, "keep": "end"},
}


def make_ticket(seed: int = 0, *, rewind: bool = False) -> Ticket:
    rng = np.random.default_rng(seed)
    module = BiLSTMClassifier(**MODEL)
    inputs = np.zeros((1, 1), np.int32), np.ones(1, np.int32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)

    def draw():
        return jax.tree_util.tree_map(
            lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes["params"]
        )

    def halve(leaf):
        return rng.random(leaf.shape) < 0.5 if leaf.ndim else np.asarray(leaf)

    initial, trained = draw(), draw()
    # What a diverged network holds, and what a careless writer would normalize.
    odd = np.array([np.nan, np.inf, -0.0, 1e-45, -np.inf], np.float32)
    trained["lstm_0"]["forward"]["input_kernel"][0, :5] = odd
    mask = jax.tree_util.tree_map(halve, full_mask(initial))
    return Ticket(initial, mask, trained, METADATA, draw() if rewind else None)


def bits(ticket: Ticket) -> dict[str, tuple]:
    """Every leaf by its path: type, shape and bytes."""
    trees = {
        "initial": ticket.initial_params,
        "mask": ticket.mask,
        "trained": ticket.trained_params,
        "rewind": ticket.rewind_params,
    }
    leaves, _ = jax.tree_util.tree_flatten_with_path(trees)
    return {
        jax.tree_util.keystr(path): (str(leaf.dtype), leaf.shape, leaf.tobytes())
        for path, leaf in leaves
    }


@pytest.fixture(scope="module")
def original() -> Ticket:
    return make_ticket()


@pytest.fixture(scope="module")
def saved(original, tmp_path_factory) -> Path:
    """A ticket that tests copy, and never change."""
    path = tmp_path_factory.mktemp("saved") / "ticket"
    save_ticket(path, original)
    return path


@pytest.fixture
def copy(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "ticket"))


def edit(directory: Path, change) -> None:
    file = directory / "ticket.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def refused(directory: Path, match: str | None = None) -> None:
    """One readable line, naming the ticket, and nothing on disk has changed."""
    before = snapshot(directory)
    with pytest.raises(UserError, match=match) as caught:
        load_ticket(directory)
    assert str(directory) in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert snapshot(directory) == before


def snapshot(directory: Path) -> dict[str, tuple]:
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


def save_first_edition(directory: Path, ticket: Ticket, drop: tuple[str, ...] = ()) -> None:
    """As the first edition saved a ticket, without its keys of the names in `drop`."""
    trees = {
        "initial_params": ticket.initial_params,
        "mask": ticket.mask,
        "trained_params": ticket.trained_params,
    }
    if ticket.rewind_params is not None:
        trees["rewind_params"] = ticket.rewind_params
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory / "arrays_2", trees)
    arrays, digest = {}, hashlib.sha256()
    for name in sorted(trees):
        leaves, _ = jax.tree_util.tree_flatten_with_path(trees[name])
        arrays[name] = {}
        for keys, leaf in leaves:
            path = "/".join(key.key for key in keys)
            arrays[name][path] = [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in sorted(("/".join(k.key for k in keys), leaf) for keys, leaf in leaves):
            digest.update(f"{name} {path} {leaf.shape} {leaf.dtype}\n".encode() + leaf.tobytes())
    content = {
        **ticket.metadata,
        "format_version": 1,
        "arrays": arrays,
        "arrays_in": "arrays_2",
        "sha256": digest.hexdigest(),
        "files": {
            str(path.relative_to(directory / "arrays_2")): hashlib.sha256(
                path.read_bytes()
            ).hexdigest()
            for path in (directory / "arrays_2").rglob("*")
            if path.is_file()
        },
    }
    if "arrays_in" in drop:
        (directory / "arrays_2").rename(directory / "arrays")
    content = {name: value for name, value in content.items() if name not in drop}
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True)
    (directory / "ticket.json").write_text(text + "\n", encoding="utf-8")


# What comes back.


@pytest.mark.parametrize("rewind", [False, True])
def test_loading_gives_what_was_saved_to_the_bit(tmp_path, rewind):
    ticket = make_ticket(rewind=rewind)
    save_ticket(tmp_path / "a" / "ticket", ticket)
    before = snapshot(tmp_path)
    loaded = load_ticket(tmp_path / "a" / "ticket")
    assert bits(loaded) == bits(ticket)
    assert loaded.metadata == METADATA
    assert (loaded.rewind_params is not None) == rewind
    assert snapshot(tmp_path) == before


def test_a_ticket_of_one_array_comes_back(tmp_path):
    params = np.arange(6, dtype=np.float32).reshape(3, 2)
    metadata = {**METADATA, "task": "linear", "model": {}}
    save_ticket(tmp_path / "ticket", Ticket(params, params > 2, params * (params > 2), metadata))
    loaded = load_ticket(tmp_path / "ticket")
    np.testing.assert_array_equal(loaded.initial_params, params)
    np.testing.assert_array_equal(loaded.mask, params > 2)


def test_leaves_that_are_not_prunable_stay_0d(saved):
    mask = load_ticket(saved).mask
    assert mask["embedding"]["embedding"].shape == ()
    assert mask["lstm_1"]["backward"]["bias"].shape == ()
    assert mask["lstm_1"]["backward"]["recurrent_kernel"].shape == (2, 8)


def test_arrays_of_a_device_are_saved_too(tmp_path, original):
    on_device = jax.tree_util.tree_map(jax.numpy.asarray, original.initial_params)
    save_ticket(tmp_path / "t", Ticket(on_device, original.mask, on_device, METADATA))
    loaded = load_ticket(tmp_path / "t")
    assert bits(loaded) == bits(Ticket(original.initial_params, original.mask, on_device, {}))


def test_another_process_reads_the_same_bits(saved, original):
    program = (
        "import sys, hashlib, jax\n"
        "from lth_flax.tickets import load_ticket\n"
        "t = load_ticket(sys.argv[1])\n"
        "leaves = jax.tree_util.tree_leaves([t.initial_params, t.mask, t.trained_params])\n"
        "print(hashlib.sha256(b''.join(leaf.tobytes() for leaf in leaves)).hexdigest())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(saved)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    trees = [original.initial_params, original.mask, original.trained_params]
    content = b"".join(leaf.tobytes() for leaf in jax.tree_util.tree_leaves(trees))
    assert found.stdout.split() == [hashlib.sha256(content).hexdigest()]


def test_the_digest_is_of_the_arrays_alone(saved, original):
    assert load_ticket(saved).digest == original.digest
    assert make_ticket(seed=1).digest != original.digest


# Saving over a ticket.


def test_saving_over_a_ticket_replaces_all_of_it(copy):
    for seed, rewind in ((1, True), (2, False), (3, False)):
        ticket = make_ticket(seed=seed, rewind=rewind)
        save_ticket(copy, ticket)
        assert bits(load_ticket(copy)) == bits(ticket)
        assert len(list(copy.iterdir())) == 2  # nothing of the ones before


def test_a_save_that_dies_before_the_switch_leaves_the_old_ticket(copy, original, monkeypatch):
    def die(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_text_atomic", die)
        with pytest.raises(KeyboardInterrupt):
            save_ticket(copy, make_ticket(seed=1))
    assert bits(load_ticket(copy)) == bits(original)
    (copy / "arrays_2.orbax-checkpoint-tmp-7").mkdir()  # as a killed orbax leaves it
    save_ticket(copy, make_ticket(seed=1))
    assert bits(load_ticket(copy)) == bits(make_ticket(seed=1))
    assert len(list(copy.iterdir())) == 2


def test_a_full_disk_leaves_the_old_ticket(copy, original, monkeypatch):
    usage = shutil.disk_usage(copy)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match="cannot be written .No space left on device"):
        save_ticket(copy, make_ticket(seed=1))
    assert bits(load_ticket(copy)) == bits(original)


def test_a_damaged_ticket_can_be_saved_over(copy):
    (copy / "ticket.json").write_text("{", encoding="utf-8")
    save_ticket(copy, make_ticket(seed=1))
    assert bits(load_ticket(copy)) == bits(make_ticket(seed=1))


def test_what_others_leave_in_a_ticket_does_no_harm(tmp_path, original):
    for name in (".DS_Store", "log.txt", "lost+found", "Thumbs.db"):
        (tmp_path / name).mkdir() if "+" in name else (tmp_path / name).write_bytes(b"\0")
    save_ticket(tmp_path, original)
    for place in (tmp_path / "arrays", *tmp_path.rglob("mask*")):
        if place.is_dir():
            (place / ".DS_Store").write_bytes(b"\0")
    assert bits(load_ticket(tmp_path)) == bits(original)
    save_ticket(tmp_path, make_ticket(seed=1))
    assert bits(load_ticket(tmp_path)) == bits(make_ticket(seed=1))
    assert (tmp_path / "log.txt").exists()


def test_saving_spares_a_directory_that_is_no_ticket(tmp_path, original):
    (tmp_path / "thesis.txt").write_text("do not delete")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=r"is no ticket and holds thesis\.txt"):
        save_ticket(tmp_path, original)
    with pytest.raises(UserError, match="cannot be written"):
        save_ticket(tmp_path / "thesis.txt", original)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        {"trained_params": {"head": {"bias": np.zeros(2, np.float32)}}},
        {"mask": jax.tree_util.tree_map(lambda a: np.zeros((9, 9), bool), make_ticket().mask)},
        {"initial_params": jax.tree_util.tree_map(np.float64, make_ticket().mask)},
        {"metadata": {**METADATA, "seed": float("nan")}},
        {"metadata": {**METADATA, "model": {**MODEL, "hidden_size": 4}}},
        {"metadata": {**METADATA, "class_names": ["one"]}},
    ],
)
def test_what_could_not_be_loaded_is_not_saved(copy, original, change):
    before = snapshot(copy)
    fields = {"initial_params", "mask", "trained_params", "metadata"}
    ticket = Ticket(**{name: change.get(name, getattr(original, name)) for name in fields})
    with pytest.raises(UserError):
        save_ticket(copy, ticket)
    assert snapshot(copy) == before


# Damage on disk.


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x10
    file.write_bytes(content)


class Bomb:
    def __reduce__(self):
        return (os.mkdir, (str(Path(os.environ["BOMB"])),))


def plant(file: Path) -> None:
    """A pickle that makes a directory when it is opened."""
    file.write_bytes(pickle.dumps(Bomb()))


@pytest.mark.parametrize("damage", [truncate, empty, flip, plant, Path.unlink])
def test_damage_to_any_file_is_refused_or_harmless(saved, original, tmp_path, monkeypatch, damage):
    """Orbax does not need all of its files; what it reads without one of them is checked."""
    monkeypatch.setenv("BOMB", str(tmp_path / "exploded"))
    names = sorted(p.relative_to(saved) for p in saved.rglob("*") if p.is_file())
    assert len(names) > 5
    harmless = 0
    for number, name in enumerate(names):
        directory = Path(shutil.copytree(saved, tmp_path / str(number)))
        damage(directory / name)
        try:
            assert bits(load_ticket(directory)) == bits(original)
            harmless += 1
        except UserError:
            refused(directory)
    assert harmless < len(names) - 3
    assert not (tmp_path / "exploded").exists()


def test_arrays_of_another_ticket_are_refused(copy, tmp_path):
    save_ticket(tmp_path / "other", make_ticket(seed=1))
    shutil.rmtree(copy / "arrays")
    shutil.copytree(tmp_path / "other" / "arrays", copy / "arrays")
    refused(copy, "do not match their checksum")


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["class_names"].reverse(),
        lambda content: content.update(seed=4),
        lambda content: content["settings"].pop("epochs"),
        lambda content: content.update(note="mine"),
        lambda content: content["model"].update(dropout=0.25),
    ],
)
def test_what_is_said_of_the_arrays_is_covered_too(copy, change):
    edit(copy, change)
    refused(copy, "do not match their checksum")


# The first edition.


@pytest.mark.slow
@pytest.mark.parametrize("rewind", [False, True])
@pytest.mark.parametrize("drop", [(), ("files", "sha256", "arrays_in")])
def test_tickets_of_the_first_edition_load(tmp_path, drop, rewind):
    ticket = make_ticket(rewind=rewind)
    save_first_edition(tmp_path, ticket, drop)
    loaded = load_ticket(tmp_path)
    assert bits(loaded) == bits(ticket)
    assert loaded.metadata == METADATA
    assert loaded.digest == ticket.digest
    save_ticket(tmp_path, make_ticket(seed=1))  # over it
    assert bits(load_ticket(tmp_path)) == bits(make_ticket(seed=1))
    assert len(list(tmp_path.iterdir())) == 2


def test_damaged_tickets_of_the_first_edition_are_refused(tmp_path):
    save_first_edition(tmp_path / "a", make_ticket())
    save_first_edition(tmp_path / "b", make_ticket(seed=1))
    shutil.rmtree(tmp_path / "a" / "arrays_2")
    refused(tmp_path / "a", "is damaged")
    shutil.copytree(tmp_path / "b" / "arrays_2", tmp_path / "a" / "arrays_2")
    refused(tmp_path / "a", "not those that ticket.json was written for")
    edit(tmp_path / "a", lambda content: content.update(arrays=[]))
    refused(tmp_path / "a", "is damaged")


def test_a_ticket_of_a_later_edition_is_refused(copy):
    edit(copy, lambda content: content.update(format_version=3))
    refused(copy, "has format_version 3: this version reads 1 and 2; update lth_flax")


def test_arrays_on_disk_are_compared_before_they_are_read(copy, original, monkeypatch):
    shutil.rmtree(copy / "arrays")
    larger = {"kernel": np.zeros((4, 2), np.float32), "bias": np.zeros(9, np.float32)}
    trees = {
        "initial_params": original.initial_params,
        "mask": original.mask,
        "trained_params": {**original.trained_params, "head": larger},
    }
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(copy / "arrays", trees)
    monkeypatch.setattr(ocp.Checkpointer, "restore", None)  # not reached
    refused(copy, "trained_params/head/bias on disk is of another shape")


def test_links_and_pipes_are_refused(saved, copy, tmp_path):
    shutil.rmtree(copy / "arrays")
    (copy / "arrays").symlink_to(saved / "arrays")
    refused(copy, "arrays is no plain folder")
    (copy / "arrays").unlink()
    shutil.copytree(saved / "arrays", copy / "arrays")
    os.mkfifo(copy / "arrays" / "pipe")
    refused(copy, "pipe is no plain file")
    (copy / "ticket.json").unlink()
    os.mkfifo(copy / "ticket.json")
    refused(copy, "not a plain file")


def test_more_bytes_than_the_arrays_could_need_are_refused(copy):
    with open(copy / "arrays" / "extra", "wb") as file:
        file.truncate(2**27)  # sparse
    refused(copy, "expected at most")


@pytest.mark.parametrize("missing", ["", "ticket.json", "arrays"])
def test_a_directory_that_is_no_ticket_is_refused(copy, missing):
    path = copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(copy)


# Damage inside ticket.json.


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"format_version": 1' + b"0" * 5000 + b"}",
        b'{"format_version": NaN}',
        b'{"format_version": 1e999}',
        b'{"format_version": 1, "dataset": "\\ud800"}',
        b'{"format_version": true}',
        b'{"format_version": 2}',
        b'{"format_version": 1, "arrays": {"mask": {}}}',
    ],
)
def test_json_that_is_no_ticket_is_refused(copy, content):
    (copy / "ticket.json").write_bytes(content)
    refused(copy)


def test_json_beyond_the_limit_is_not_read(copy):
    with open(copy / "ticket.json", "wb") as file:
        file.truncate(2**28 + 1)
    refused(copy, "larger than 256 MiB")


@pytest.mark.parametrize("name", sorted(MODEL))
@pytest.mark.parametrize("value", [None, "8", True, -1, 2**31, 10**40, 1.5, [], {}])
def test_model_settings_are_checked(copy, name, value):
    edit(copy, lambda content: content["model"].update({name: value}))
    refused(copy)


@pytest.mark.parametrize(
    ("where", "value", "match"),
    [
        (["model", "hidden_size"], 4, "expected"),
        (["model", "num_layers"], 100_000, "at most 1000"),
        (["model", "embedding_size"], 2**30, "bytes: at most"),
        (["vocabulary"], ["a", 3], "vocabulary"),
        (["vocabulary"], ["a", "a"], "vocabulary"),
        (["vocabulary"], list("abcdefgh"), "vocabulary"),
        (["vocabulary"], "abc", "vocabulary"),
        (["class_names"], ["a"], "class_names"),
        (["class_names"], [["a"], ["b"]], "class_names"),
        (["arrays_in"], "../other", "arrays_in"),
        (["arrays_in"], 3, "arrays_in"),
        (["arrays_in"], [], "arrays_in"),
        (["sha256"], "0" * 64, "checksum"),
        (["sha256"], 3, "checksum"),
        (["orbax"], "99.0", "checksum"),
        (["arrays"], [], "arrays"),
        (["arrays"], {"mask/head/kernel": [[4, 2], "bool"]}, "arrays must be"),
        (["arrays", "mask/head/kernel"], 3, "mask/head/kernel"),
        (["arrays", "extra"], [[], "bool"], "arrays"),
        (["arrays", "mask/extra"], [[], "bool"], "mask/extra"),
        (["arrays", "mask/head/kernel"], [[], "float32"], "mask/head/kernel"),
        (["arrays", "initial_params/head/bias"], [[], "float32"], "initial_params/head/bias"),
        (["arrays", "initial_params/head/bias"], [[2], "object"], "initial_params/head/bias"),
        (["arrays", "initial_params/head/bias"], [[-2], "float32"], "initial_params/head/bias"),
        (["arrays", "mask/head/kernel"], [[], "bool"], "mask/head/kernel"),
    ],
)
def test_edited_metadata_is_refused(copy, where, value, match):
    def change(content):
        for name in where[:-1]:
            content = content[name]
        content[where[-1]] = value

    edit(copy, change)
    refused(copy, match)


@pytest.mark.parametrize("name", ["model", "arrays", "vocabulary", "class_names", "format_version"])
def test_missing_metadata_is_refused(copy, name):
    edit(copy, lambda content: content.pop(name))
    refused(copy)


def test_a_mask_of_nothing_is_refused(copy):
    def change(content):
        for path in content["arrays"]:
            if path.startswith("mask/"):
                content["arrays"][path] = [[], "bool"]

    edit(copy, change)
    refused(copy, "covers no parameter")
