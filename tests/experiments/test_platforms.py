"""Which backend, and why; what is not there is refused with one line."""

import commands
import jax
import pytest

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.errors import UserError
from lth_flax.runs import platforms


class Device:
    def __init__(self, platform):
        self.platform = platform


@pytest.mark.exhaustive(sample=1)
@pytest.mark.parametrize("platform", ["cuda", "metal", "mps"])
def test_a_platform_that_is_not_there_is_one_line(tmp_path, platform):
    if any(device.platform != "cpu" for device in jax.devices()):
        pytest.skip("there is an accelerator here")
    done = commands.run(
        "lth_flax.experiments.winning_ticket", f"--platform={platform}", "--synthetic_size=200",
        "--work_dir=run", "--cache_dir=", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert f"--platform={platform} is not available here" in line
    assert f"lth_flax[{platform}]" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("found", "wanted", "words"),
    [("gpu", "auto", "gpu (auto: the accelerator"), ("gpu", "cuda", "as --platform=cuda says"),
     ("cpu", "cpu", "as --platform=cpu says"), ("cpu", "auto", "cpu (auto: ")],
)  # fmt: skip
def test_the_answer_says_what_and_why(monkeypatch, found, wanted, words):
    monkeypatch.setattr(jax, "devices", lambda *_: [Device(found)])
    assert words in platforms.start(wanted)


def test_a_gpu_without_its_plugin_is_named(monkeypatch):
    monkeypatch.setattr(jax, "devices", lambda *_: [Device("cpu")])
    monkeypatch.setattr(platforms, "has_nvidia", lambda: True)
    assert "lth_flax[cuda]" in platforms.start("auto")
    with pytest.raises(UserError, match="--platform=cuda is not available"):
        platforms.start("cuda")


@pytest.mark.parametrize(("text", "value"), [("auto", 0), ("0", 0), ("12", 12)])
def test_rows_per_program(text, value):
    assert cli.parse(Config, [f"--rows_per_program={text}"]).rows_per_program == value


@pytest.mark.parametrize("text", ["-1", "many", "1.5", ""])
def test_rows_per_program_refuses_others(text):
    with pytest.raises(UserError, match="auto, or a whole number from"):
        cli.parse(Config, [f"--rows_per_program={text}"])


@pytest.mark.parametrize(
    ("named", "wanted", "found"),
    [
        ("cuda", "auto", "cuda,cpu"),
        ("cuda,cpu", "auto", "cuda,cpu"),
        ("cpu", "auto", "cpu"),
        ("", "auto", ""),
        ("cuda", "cpu", "cpu"),
        ("cpu", "cuda", "cuda,cpu"),
    ],
)
def test_the_cpu_stays_beside_what_the_environment_names(named, wanted, found):
    before = jax.config.values["jax_platforms"]
    try:
        jax.config.update("jax_platforms", named)
        platforms.choose(wanted)
        assert jax.config.values["jax_platforms"] == found
    finally:
        jax.config.update("jax_platforms", before)


@pytest.mark.parametrize("name", ["JAX_PLATFORMS", "JAX_PLATFORM_NAME"])
def test_what_the_environment_names_and_is_not_there_is_no_silent_cpu(monkeypatch, name):
    monkeypatch.setattr(jax, "devices", lambda *_: [Device("cpu")])
    monkeypatch.setenv(name, "cuda")
    with pytest.raises(UserError, match=f"^{name}=cuda is not available here"):
        platforms.start("auto")
    assert "as --platform=cpu says" in platforms.start("cpu")
    monkeypatch.setenv(name, "cuda,cpu")
    assert platforms.start("auto").startswith("cpu (auto")


def test_without_a_cpu_beside_the_accelerator_there_is_one_line(monkeypatch):
    def devices(platform):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(UserError, match=r"set JAX_PLATFORMS=\S+,cpu before JAX starts"):
        platforms.host_device()
