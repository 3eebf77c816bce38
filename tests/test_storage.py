"""Saved arrays: any path and any array come back, and what fails is named for what it is."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from lth_flax import storage
from lth_flax.files import is_temporary, write_bytes_atomic
from lth_flax.orbax_arrays import Damaged, Unusable

ROOT = Path(__file__).resolve().parents[1]
ARRAYS = {"a/b": np.arange(6.0).reshape(2, 3), "a/c": np.array(True), "none": np.zeros((0, 3))}

NAMES = [
    "x[1]", "[", "q?", "s*", "{a,b}", "!x", "back\\slash", "gs:", "col:on", "~", "$HOME", "%41",
    "a b", "-rf", "new\nline", "quote\"'", "\N{SNOWMAN}", "e\N{COMBINING ACUTE ACCENT}", "\udcff",
    "a" * 255, ".hidden", "arrays", "x.orbax-checkpoint-tmp",
]  # fmt: skip


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("name", NAMES)
def test_a_path_may_have_any_name_in_it(tmp_path, name):
    # A pattern would also match these, and take their arrays.
    for other in ("x1", "s1", "qq", "a", "b"):
        (tmp_path / other).mkdir()
    file = tmp_path / name / "deeper" / "it.json"
    for value in range(2):
        arrays = {**ARRAYS, "value": np.array([value])}
        storage.save(file, {"value": value, "of": (1, 2), 7: None, 10: "x"}, arrays)
        meta, found = storage.load(file)
        assert meta == {"value": value, "of": [1, 2], "7": None, "10": "x"}
        same(found, arrays)


def test_a_pattern_does_not_take_the_arrays_of_another(tmp_path):
    storage.save(tmp_path / "s1" / "it.json", {}, {"other": np.ones(3)})
    storage.save(tmp_path / "s*" / "it.json", {}, ARRAYS)
    same(storage.load(tmp_path / "s*" / "it.json")[1], ARRAYS)
    (tmp_path / "s*").rename(tmp_path / "[moved]")
    same(storage.load(tmp_path / "[moved]" / "it.json")[1], ARRAYS)


def test_a_directory_may_be_a_link_or_relative(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    storage.save(tmp_path / "link" / "it.json", {}, ARRAYS)
    same(storage.load(tmp_path / "real" / "it.json")[1], ARRAYS)
    monkeypatch.chdir(tmp_path)
    storage.save(Path("real").absolute() / "it.json", {}, ARRAYS)
    monkeypatch.chdir("/")
    same(storage.load(tmp_path / "real" / "it.json")[1], ARRAYS)


def test_a_name_that_fills_its_file_system_can_be_written(tmp_path):
    for name in ("x" * 255, "\N{SNOWMAN}" * 85):
        write_bytes_atomic(tmp_path / name, b"content")
        assert (tmp_path / name).read_bytes() == b"content"
    assert not any(is_temporary(path) for path in tmp_path.iterdir())


def test_what_is_written_is_read_back_before_it_counts(tmp_path, monkeypatch):
    file = tmp_path / "it.json"
    storage.save(file, {"version": 1}, ARRAYS)
    write = storage.write_arrays

    def other(folder, arrays):
        write(folder, {**arrays, "a/b": arrays["a/b"] + 1})

    monkeypatch.setattr(storage, "write_arrays", other)
    with pytest.raises(Unusable, match="reads back otherwise"):
        storage.save(file, {"version": 2}, ARRAYS)
    meta, arrays = storage.load(file)
    assert meta == {"version": 1}
    same(arrays, ARRAYS)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (ValueError("Error opening: [OS error 28: ENOSPC No space left on device]"), "No space"),
        (MemoryError(), "not enough memory"),
        (ModuleNotFoundError("No module", name="tensorstore"), "library tensorstore is missing"),
    ],
)
def test_a_fault_of_the_machine_is_no_damage(tmp_path, monkeypatch, error, match):
    storage.save(tmp_path / "it.json", {}, ARRAYS)

    def fail(*_):
        try:
            raise error
        except type(error) as cause:
            raise ValueError("something deep inside") from cause

    monkeypatch.setattr(storage, "read_arrays", fail)
    with pytest.raises(Unusable, match=match):
        storage.load(tmp_path / "it.json")


def test_other_failures_are_damage_and_name_the_orbax_that_wrote_it(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "orbax_version", lambda: "99.0")
    storage.save(tmp_path / "it.json", {}, ARRAYS)

    def fail(*_):
        raise KeyError("manifest of a version to come")

    monkeypatch.setattr(storage, "read_arrays", fail)
    with pytest.raises(Damaged, match=r"version to come.*orbax 99\.0 wrote it"):
        storage.load(tmp_path / "it.json")


PROGRAM = """
import sys
from pathlib import Path
from lth_flax import storage
try:
    storage.load(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


def load_elsewhere(file, before):
    """What another process says of it; all that it imports is there before it begins."""
    return subprocess.run(
        [sys.executable, "-c", before + PROGRAM, str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "match"),
    [
        ("import sys; sys.modules['tensorstore'] = None", "the library tensorstore is missing"),
        ("import sys; sys.modules['orbax'] = None", "the library orbax.checkpoint is missing"),
        ("import os; os.environ['JAX_PLATFORMS'] = 'cuda'", "start platform 'cuda'"),
        ("import os; os.environ['JAX_PLATFORMS'] = 'nonsense'", "start platform 'nonsense'"),
    ],
    ids=["tensorstore", "orbax", "cuda", "nonsense"],
)
def test_what_is_really_missing_is_named(tmp_path, before, match):
    storage.save(tmp_path / "it.json", {}, ARRAYS)
    done = load_elsewhere(tmp_path / "it.json", before)
    assert done.stdout.startswith("Unusable "), done
    assert match in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give up rights")
def test_files_of_another_user_are_no_damage():
    with tempfile.TemporaryDirectory() as place:  # pytest's own is closed to other users
        os.chmod(place, 0o755)
        file = Path(place, "it.json")
        storage.save(file, {}, ARRAYS)
        for path in (file.parent / "arrays").rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o600)
        warm = PROGRAM.split("try:", maxsplit=1)[0] + "storage.load(Path(sys.argv[1]))\n"
        done = load_elsewhere(file, warm + "import os; os.setuid(65534)\n")
    assert done.stdout.startswith("Unusable "), done
    assert "Permission denied" in done.stdout
