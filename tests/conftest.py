"""Shared by all tests: two CPU devices, cheap compilation, strict promotion where it holds.

Tiers, by mark (pyproject.toml says what each is):
- `python -m pytest -n 2`: the fast one, no mark. At most 4 minutes on two idle cores.
- `python -m pytest -n 2 -m slow`: the slow one, with a sample of what is exhaustive, and of files
  that take long those whose turn it is.
- `python -m pytest -n 2 -m "slow or exhaustive"`: all of that.
The sample changes with the day; `LTH_FLAX_TEST_SEED=...` takes that of another one.
`LTH_FLAX_TEST_OPTIMIZED=1` compiles as users do, which takes half as long again;
`LTH_FLAX_TEST_PROGRAMS=DIRECTORY` keeps what is compiled there for a next time.
`LTH_FLAX_TEST_PLATFORMS=cuda,cpu python -m pytest tests/training/test_lowering.py` runs the test
that needs a GPU; the others are meant for a CPU.
"""

import datetime
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import hypothesis
import jax
import pytest
from jaxlib import xla_client

PLATFORMS = "LTH_FLAX_TEST_PLATFORMS"
jax.config.update("jax_platforms", os.environ.get(PLATFORMS, "cpu"))
jax.config.update("jax_num_cpu_devices", 2)

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

SEED = "LTH_FLAX_TEST_SEED"
OPTIMIZED = "LTH_FLAX_TEST_OPTIMIZED"
PROGRAMS = "LTH_FLAX_TEST_PROGRAMS"
QUICK = "LTH_FLAX_TEST_XLA_FLAGS"
QUICK_FLAGS = (
    "--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1",
)  # fmt: skip
"""With them small programs compile in a fraction of the time. JAX 0.12 knows only the second."""

CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()
FIRST = (
    "test_recorded_answers.py", "test_changing_rows.py", "test_mask_origins.py",
    "test_replicates.py", "test_steps.py", "test_lstm.py", "test_winning_ticket.py",
    "test_search.py", "test_merging_blocks.py", "test_select.py", "test_figures_and_page.py",
    "test_rewinding.py", "test_checkpoints.py", "test_full_disk.py", "test_tickets.py",
    "test_killed_runs.py", "test_faults.py", "test_other_experiments.py", "test_retrain_ticket.py",
    "test_sweep.py", "test_compare_methods.py", "test_surroundings.py", "test_plan.py",
)  # fmt: skip
"""The longest files, in the order in which they start, so that two processes end together: first
those of the fast tier, then those of the slow one."""

TURNS = (
    ("test_sweep.py", "test_faults.py", "test_surroundings.py", "test_docs.py"),
    ("test_killed_runs.py", "test_compare_methods.py", "test_same_bytes.py",
     "test_winning_ticket.py"),
    ("test_transfer.py", "test_log.py", "test_accelerator.py", "test_checkpoints.py"),
    ("test_other_experiments.py", "test_retrain_ticket.py", "test_streaming.py",
     "test_mask_origins.py"),
    ("test_plan.py", "test_identity_of_runs.py", "test_data_of_a_run.py",
     "test_figures_and_page.py"),
    ("test_connectivity.py", "test_benchmarks.py", "test_knowledge.py", "test_scores.py"),
)  # fmt: skip
"""Files whose slow tests take long, most as they run whole commands: of each row, in which all take
about as long, the slow tier has one file a day, and the exhaustive one the others."""

SAMPLED = {
    "test_identity_of_runs.py": 3, "test_other_experiments.py": 3, "test_sweep.py": 2,
    "test_retrain_ticket.py": 2, "test_faults.py": 2, "test_hostile_input.py": 3,
    "test_error_rates.py": 1, "test_compaction.py": 1, "test_numerics.py": 4,
    "test_keep_pruned.py": 10, "test_export.py": 4, "test_structured.py": 2,
}  # fmt: skip
"""Of files whose slow tests run whole commands or many sizes, how many of these the slow tier tries
on a day; `-m exhaustive` runs all."""


def pytest_configure(config):
    # In the environment: the processes of xdist have to draw the same sample.
    os.environ.setdefault(SEED, datetime.date.today().isoformat())
    if "not slow" in config.option.markexpr:
        hypothesis.settings.register_profile("fast", derandomize=True)  # what passed passes again
        hypothesis.settings.load_profile("fast")
    # Nearly all time is compilation, much of it of the same small programs: here, and by the
    # environment in the processes that tests start, it is cheap. With the variable set all
    # compiles as users do.
    if os.environ.get(OPTIMIZED):
        return
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    jax.config.update("jax_disable_most_optimizations", True)
    if PROGRAMS not in os.environ:  # one directory for all processes of this run
        config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="lth_flax_tests_")
        os.environ[PROGRAMS] = config.stash[CACHE].name
    if QUICK not in os.environ:
        os.environ[QUICK] = " ".join(filter(_known_to_xla, QUICK_FLAGS))
    with pytest.MonkeyPatch.context() as patch:  # commands that tests start are as users'
        given = os.environ.get("XLA_FLAGS", "")
        patch.setenv("XLA_FLAGS", f"{given} {os.environ[QUICK]}".strip())
        xla_client.CompileOptions()  # reads the variable, once in a process
    jax.config.update("jax_compilation_cache_dir", os.environ[PROGRAMS])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def whose_turn(seed):
    """Of each row of `TURNS` one file: four days in a row have them all."""
    try:
        number = datetime.date.fromisoformat(seed).toordinal()
    except ValueError:
        number = len(seed)
    return {row[(number + place) % len(row)] for place, row in enumerate(TURNS)}


def _known_to_xla(flag):
    """XLA ends the process at a flag that it does not know."""
    code = "from jaxlib import xla_client; xla_client.CompileOptions()"
    environment = {**os.environ, "XLA_FLAGS": flag}
    command = [sys.executable, "-c", code]
    return not subprocess.run(command, env=environment, capture_output=True, check=False).returncode


def pytest_unconfigure(config):
    if CACHE in config.stash:
        config.stash[CACHE].cleanup()


def pytest_report_header():
    return f"seed of the day: {SEED}={os.environ[SEED]}"


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items):
    sets = defaultdict(list)
    rest = {name for row in TURNS for name in row} - whose_turn(os.environ[SEED])
    for item in items:
        name = item.path.name
        slow, exhaustive = map(item.get_closest_marker, ("slow", "exhaustive"))
        if slow and not exhaustive and (name in SAMPLED or name in rest):
            item.own_markers = [mark for mark in item.own_markers if mark.name != "slow"]
            item.add_marker(pytest.mark.exhaustive)
            sets[name, 0 if name in rest else SAMPLED[name]].append(item)
        elif exhaustive:
            size = 0 if name in rest else exhaustive.kwargs.get("sample", 0)
            sets[item.nodeid.partition("[")[0], size].append(item)
    for (name, size), members in sets.items():
        rng = random.Random(f"{os.environ[SEED]} {name}")
        for item in rng.sample(members, min(size, len(members))):
            item.add_marker(pytest.mark.slow)
    ranks = {name: rank for rank, name in enumerate(FIRST)}
    items.sort(key=lambda item: ranks.get(item.path.name, len(FIRST)))


@pytest.fixture(scope="session")
def seed_of_the_day() -> str:
    """For what is drawn inside of a test."""
    return os.environ[SEED]


@pytest.fixture
def strict_promotion():
    """Mixed dtypes raise: for our own `models` and `pruning`."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data, where it is."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data is not here: expected ../shared/data beside the project")
    return SHARED / "data"
