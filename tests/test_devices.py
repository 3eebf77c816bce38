"""Where compiled programs are kept, and what is said where that cannot be."""

import os

import jax
import pytest

from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.runs import devices


@pytest.fixture
def configured(monkeypatch):
    """A function that gives the options of JAX that `configure_jax` would set."""
    monkeypatch.setattr(devices, "prepare_cpu", lambda count: None)
    monkeypatch.setattr(devices, "pin_process", lambda: None)
    options = {}
    monkeypatch.setattr(jax.config, "update", options.__setitem__)

    def configure(**settings):
        devices.configure_jax(Config(**settings))
        return options

    return configure


def test_there_are_as_many_cpu_devices_as_cores(monkeypatch):
    asked = []
    monkeypatch.setattr(devices, "prepare_cpu", asked.append)
    monkeypatch.setattr(devices, "pin_process", lambda: None)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    monkeypatch.setattr(devices, "cores_here", lambda: 3)
    devices.configure_jax(Config(cache_dir=""))
    devices.configure_jax(Config(cache_dir=""), devices=1)
    assert asked == [3, 1]


@pytest.mark.parametrize(("rows", "used"), [(1, 1), (2, 2), (7, 2)])
def test_of_the_devices_there_are_as_many_used_as_the_largest_table_has_rows(rows, used):
    engine = devices.make_engine(Config(), rows, None, None, None)
    assert (len(engine.devices), engine.rows) == (used, used)


def test_the_default_cache_is_in_the_home_directory(configured, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = tmp_path / ".cache" / "lth_flax"
    assert configured()["jax_compilation_cache_dir"] == str(expected)
    assert list(expected.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_without_a_cache_that_nobody_asked_for_it_goes_on(
    configured, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert "jax_compilation_cache_dir" not in configured()
    assert "programs are not kept" in capsys.readouterr().err
    # No home directory at all.
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert "jax_compilation_cache_dir" not in configured()
    assert "no home directory" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_a_cache_that_was_asked_for_has_to_be_there(configured, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="give another, or an empty one"):
        configured(cache_dir=str(tmp_path / "file"))
    assert "jax_compilation_cache_dir" not in configured(cache_dir="")
