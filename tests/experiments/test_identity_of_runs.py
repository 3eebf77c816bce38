"""A directory answers for what made it: other files, settings and code are refused by name."""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import commands
import numpy as np
import pytest

from lth_flax import cli
from lth_flax.analysis import report
from lth_flax.config import SweepConfig
from lth_flax.data import synthetic
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.experiments import sweep
from lth_flax.experiments.sweep import Cell, Task
from lth_flax.records import read_records
from lth_flax.runs.provenance import identity_now, source_revision
from lth_flax.text_tasks import files_that_are_read
from lth_flax.tickets import load_ticket, save_ticket
from lth_flax.training.host import flags_with

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "--synthetic_size=120", "--hidden_size=4", "--embedding_size=3", "--num_layers=1",
    "--num_seeds=1", "--levels=0.5", "--arms=ticket,reinit,shuffled,random", "--epochs=1",
    "--batch_size=32", "--max_shapes=1", "--dropout=0.3", "--cache_dir=cache", "--noprogress",
    "--platform=cpu", "--noreport",
]  # fmt: skip
RESULTS = ("records.csv", "curves.csv", "predictions.npz")


def start(place, *flags, command="winning_ticket", root=ROOT, **environment):
    module = f"lth_flax.experiments.{command}"
    return commands.start(module, *flags, cwd=place, root=root, **environment)


def succeed(process):
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, ""), err
    return out


def check_refused(process, *words):
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err.count("\n")) == (2, 1), err
    for word in ("error: ", *words):
        assert word in err
    return out


def results(directory):
    return [(directory / name).read_bytes() for name in RESULTS]


def write_vectors(path, seed):
    """Of every word of the synthetic corpus."""
    words = sorted({word for text in synthetic.generate(120, 0)[0] for word in text.split()})
    numbers = np.random.default_rng(seed).normal(size=(len(words), 3))
    lines = [
        f"{w} {' '.join(map(repr, map(float, n)))}" for w, n in zip(words, numbers, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A finished run with the word vectors a.txt."""
    place = tmp_path_factory.mktemp("identity")
    for name, seed in (("a.txt", 0), ("b.txt", 1)):
        write_vectors(place / name, seed)
    succeed(start(place, *TINY, "--work_dir=run", "--embeddings_file=a.txt"))
    return place


@pytest.mark.slow
def test_a_finished_run_answers_for_its_own_files_and_settings_alone(place):
    shutil.copy(place / "a.txt", place / "moved.txt")
    ambient = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=true", "JAX_SOFTMAX_CUSTOM_JVP": "1"}
    cases = [
        (["--embeddings_file=moved.txt"], {}, []),
        (["--embeddings_file=b.txt"], {}, ["word vectors (", " there, ", " now)"]),
        ([], {}, ["word vectors (", " there, none now)"]),
        (
            ["--embeddings_file=a.txt"],
            ambient,
            [
                "jax_softmax_custom_jvp (False there, True now)",
                "xla_cpu_enable_fast_math (none there, true now)",
            ],
        ),
    ]
    processes = []
    for number, (flags, environment, _) in enumerate(cases):  # side by side; a run has a lock
        shutil.copytree(place / "run", place / f"copy_{number}")
        processes.append(start(place, *TINY, f"--work_dir=copy_{number}", *flags, **environment))
    for number, (process, (_, _, words)) in enumerate(zip(processes, cases, strict=True)):
        if words:
            start_of_line = f"--work_dir=copy_{number} was made with other"
            assert check_refused(process, start_of_line, *words, "give another") == ""
        else:
            assert f"analysis.report copy_{number}" in succeed(process)
        for path in (place / f"copy_{number}").rglob("*.*"):
            if path.is_file():
                same = place / "run" / path.relative_to(place / f"copy_{number}")
                assert path.read_bytes() == same.read_bytes(), path


@pytest.mark.slow
def test_it_is_in_the_records_the_provenance_and_the_tickets(place):
    provenance = json.loads((place / "run" / "provenance.json").read_text())
    ticket = json.loads(next((place / "run").rglob("ticket.json")).read_text())
    assert ticket["identity"] == provenance["identity"]
    vectors = provenance["identity"]["files"]["word vectors"]
    assert {r.settings["embeddings"] for r in read_records(place / "run" / "records.csv")} == {
        vectors[:12]
    }
    assert provenance["identity"]["data"]["data fingerprint"] == provenance["data"]["fingerprint"]
    # No report was asked for; it is drawn from the records, and spares its reader the digests.
    assert not (place / "run" / "report").exists()
    shutil.copytree(place / "run", place / "drawn")
    assert report.main([str(place / "drawn")]) == 0
    page = (place / "drawn" / "report" / "report.html").read_text()
    assert provenance["versions"]["jax"] in page
    assert "lth_flax.pruning.scores" not in page


AMBIENT = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "FLAX_FIX_RNG_SEPARATOR": "1",
    "FLAX_RETURN_FROZENDICT": "1",
    "FLAX_PRESERVE_ADOPTED_NAMES": "1",
    "OMP_NUM_THREADS": "3",
    "JAX_ERROR_CHECKING_BEHAVIOR_NAN": "raise",
    "JAX_ERROR_CHECKING_BEHAVIOR_OOB": "raise",
    "JAX_TRANSFER_GUARD": "disallow_explicit",
    "JAX_TRANSFER_GUARD_HOST_TO_DEVICE": "disallow_explicit",
    "JAX_TRACEBACK_FILTERING": "off",
}
"""What is pinned, or changes nothing: with all of it the bytes are the same."""

REFUSED = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "0",  # the tests say 1
    "JAX_EXEC_TIME_OPTIMIZATION_EFFORT": "0.5",
    "JAX_USE_MAGMA": "off",
    "JAX_SOFTMAX_CUSTOM_JVP": "1",
    "OPENBLAS_NUM_THREADS": "2",
    "OPENBLAS_CORETYPE": "Nehalem",
    "NVIDIA_TF32_OVERRIDE": "0",
    "XLA_FLAGS": "--xla_cpu_enable_fast_min_max=false",
}


@pytest.mark.slow
def test_ambient_settings_that_are_pinned_change_no_byte(place):
    run = [*TINY, "--work_dir=ambient", "--embeddings_file=a.txt"]
    succeed(start(place, *run, **AMBIENT))
    assert results(place / "ambient") == results(place / "run")
    # And the directory of one answers for the other.
    succeed(start(place, *TINY, "--work_dir=run", "--embeddings_file=a.txt", **AMBIENT))


@pytest.mark.slow
@pytest.mark.parametrize("name", REFUSED)
def test_ambient_settings_that_are_not_pinned_are_refused_by_name(place, name):
    process = start(
        place, *TINY, "--work_dir=run", "--embeddings_file=a.txt", **{name: REFUSED[name]}
    )
    said = "xla_cpu_enable_fast_min_max" if name == "XLA_FLAGS" else name
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"{said} (".lower() in err.lower()
    assert err.count("\n") == 1


@pytest.mark.slow
def test_other_code_is_refused_and_other_words_are_not(place, tmp_path):
    shutil.copytree(ROOT / "lth_flax", tmp_path / "lth_flax")
    scores = tmp_path / "lth_flax" / "pruning" / "scores.py"
    plain = scores.read_text(encoding="utf-8")
    run = [*TINY, "--work_dir=run", "--embeddings_file=a.txt"]
    scores.write_text(plain.replace('"""|w|', '"""The size |w|') + "# A comment.\n")
    assert scores.read_text(encoding="utf-8").count("The size") == 1
    succeed(start(place, *run, root=tmp_path))
    scores.write_text(plain.replace("jnp.abs, params)", "jnp.square, params)"))
    check_refused(start(place, *run, root=tmp_path), "with other code (pruning.scores): give")


def interrupted(place, name, *flags):
    """A run that was stopped in its training."""
    flags = f"--work_dir={name}", "--checkpoint_minutes=0", *flags
    process = start(place, *TINY, *flags, PYTHONUNBUFFERED="1")
    for line in process.stdout:
        if "replicates of" in line:
            process.send_signal(2)
            break
    process.communicate(timeout=300)
    assert process.returncode == 130
    assert not json.loads((place / name / "provenance.json").read_text())["finished"]


@pytest.mark.slow
def test_an_interrupted_run_does_not_go_on_with_other_vectors(place):
    longer = ["--epochs=40", "--synthetic_size=2000"]
    interrupted(place, "stopped", *longer, "--embeddings_file=a.txt")
    run = [*TINY, *longer, "--work_dir=stopped"]
    check_refused(start(place, *run, "--embeddings_file=b.txt"), "word vectors (")
    check_refused(start(place, *run), "word vectors (")


@pytest.mark.slow
def test_blocks_of_other_vectors_and_settings_do_not_merge(place, capsys):
    def block(name, seeds, *flags, **environment):
        succeed(
            start(place, *TINY, f"--seeds={seeds}", f"--work_dir={name}", *flags, **environment)
        )
        return str(place / name)

    first = block("block_0", "0:1", "--embeddings_file=a.txt")
    same = block("block_1", "1:2", "--embeddings_file=a.txt")
    other = block("block_2", "2:3", "--embeddings_file=b.txt")
    fast = block("block_3", "3:4", "--embeddings_file=a.txt", JAX_DISABLE_MOST_OPTIMIZATIONS="0")

    def merge(name, *blocks):
        status = report.main([f"--out={place / name}", *blocks])
        return status, capsys.readouterr().err

    assert merge("out_1", first, same) == (0, "")
    merged = json.loads((place / "out_1" / "provenance.json").read_text())
    assert merged["identity"] == json.loads((place / "run/provenance.json").read_text())["identity"]
    for one in (first, str(place / "out_1")):
        status, said = merge("out_2", one, other)
        assert status == 2
        assert f"{one} and {other} differ in word vectors (" in said
        status, said = merge("out_2", one, fast)
        assert status == 2
        assert "differ in jax_disable_most_optimizations (True, False)" in said
    # Of records alone it is known as well.
    for one in (other, fast):
        (Path(one) / "provenance.json").unlink()
        status, said = merge("out_2", first, one)
        assert status == 2
        assert ("embeddings (" if one is other else "identity (") in said
    assert not (place / "out_2").exists()


@pytest.mark.slow
def test_the_controls_of_a_ticket_start_with_its_vectors(place):
    ticket = next((place / "run").rglob("ticket.json"))
    flags = [f"--ticket={ticket.parent}", "--cache_dir=cache", "--noprogress", "--platform=cpu"]

    def retrain(*more):
        return start(place, *flags, *more, command="retrain_ticket")

    succeed(retrain("--work_dir=retrained", "--embeddings_file=a.txt"))
    words = ["b.txt holds other word vectors (sha256 ", "was found with (sha256 "]
    check_refused(retrain("--work_dir=no", "--embeddings_file=b.txt"), *words)
    check_refused(retrain("--work_dir=no"), "was found with word vectors")
    # A ticket of the first edition does not say which vectors it had, but has them.
    found = load_ticket(ticket.parent)
    metadata = json.loads(json.dumps(found.metadata))
    del metadata["identity"], metadata["settings"]["identity"]
    metadata["settings"]["embeddings"] = True
    old = place / "old"
    save_ticket(old, dataclasses.replace(found, metadata=metadata))
    flags[0] = f"--ticket={old}"
    succeed(retrain("--work_dir=from_old", "--embeddings_file=a.txt"))
    check_refused(retrain("--work_dir=no", "--embeddings_file=b.txt"), "holds other word vectors")
    assert not (place / "no").exists()


def test_a_sweep_does_not_take_finished_tasks_of_other_files_or_data(tmp_path):
    write_vectors(tmp_path / "v.txt", 0)
    arguments = ["--synthetic_size=120", f"--embeddings_file={tmp_path}/v.txt"]
    config = cli.parse(SweepConfig, arguments)
    task = Task("seeds_0_1", Cell("", ()), range(1))
    smaller = Task("small", Cell("small", (("synthetic_size", "100"),)), range(1))
    for one in (task, smaller):
        (tmp_path / "blocks" / one.name).mkdir(parents=True)
    now = identity_now(
        config,
        "winning_ticket",
        data=load_source(config).fingerprint,
        files=files_that_are_read(config),
        # As in the process of a task.
        environment={**os.environ, "XLA_FLAGS": flags_with(os.environ.get("XLA_FLAGS", ""))},
    )
    content = json.dumps({"identity": now, "finished": True})
    for one in (task, smaller):
        (tmp_path / "blocks" / one.name / "provenance.json").write_text(content)
    sweep.check_done(config, tmp_path, [task])
    with pytest.raises(UserError, match=r"blocks/small was made with other data fingerprint \("):
        sweep.check_done(config, tmp_path, [task, smaller])
    write_vectors(tmp_path / "v.txt", 1)
    with pytest.raises(UserError, match=r"blocks/seeds_0_1 was made with other word vectors \("):
        sweep.check_done(config, tmp_path, [task])


# Revisions. -----------------------------------------------------------------------------


def git(place, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(place), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A checkout of a project of this name with one commit."""
    if shutil.which("git") is None:
        pytest.skip("there is no git")
    package = tmp_path / "checkout" / "lth_flax"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models").mkdir()
    (package / "models" / "lstm.py").write_text("a = 1\n")
    (package.parent / "pyproject.toml").write_text('[project]\nname = "lth_flax"\n')
    git(package.parent, "init", "-q")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "-q", "-m", "all")
    return package


def test_the_revision_is_that_of_the_packages_own_checkout(checkout, monkeypatch, tmp_path):
    head = git(checkout, "rev-parse", "HEAD")
    assert source_revision(checkout) == head
    (checkout.parent / "notes.txt").write_text("beside the package")
    assert source_revision(checkout) == head
    (checkout / "models" / "lstm.py").write_text("a = 2\n")
    assert source_revision(checkout) == f"{head}+"
    # As inside of a hook of another repository.
    (tmp_path / "other").mkdir()
    git(tmp_path / "other", "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    assert source_revision(checkout) == f"{head}+"


def test_another_repository_around_the_package_is_not_its_own(checkout):
    site = checkout.parent / ".venv" / "site-packages"
    shutil.copytree(checkout, site / "lth_flax")
    assert source_revision(site / "lth_flax") is None
    git(checkout.parent, "add", "-f", ".")  # somebody keeps even the environment
    git(checkout.parent, "commit", "-q", "-m", "environment")
    assert source_revision(site / "lth_flax") is None
    # Unpacked, with its project file, in somebody else's repository.
    vendored = checkout.parent / "vendored" / "lth_flax"
    shutil.copytree(checkout, vendored)
    shutil.copy(checkout.parent / "pyproject.toml", vendored.parent)
    assert source_revision(vendored) is None


def test_without_a_repository_there_is_no_revision(tmp_path):
    assert source_revision(tmp_path) is None
