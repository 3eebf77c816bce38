"""The same settings by flags, by a flagfile and from Python lead to the same bytes."""

import os
import subprocess
import sys
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).resolve().parents[1]
DATA = {
    "dataset": "synthetic", "synthetic_size": 200, "hidden_size": 4, "embedding_size": 4,
    "num_layers": 1, "num_seeds": 2, "batch_size": 32, "max_shapes": 2,
}  # fmt: skip
TRAINING = {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "lr_schedule": "linear"}
SEARCH = {"levels": "0.5,0.8", "rewind_epoch": "1", "margin": 1.5}
FLAGS = [f"--{name}={value}" for name, value in {**DATA, **TRAINING, **SEARCH}.items()]
PYTHON = f"""
import lth_flax as lth

task, examples = lth.text_classification(**{DATA})
lth.find_tickets(
    task, examples, seeds=2, levels=[0.5, 0.8], training=lth.Training(**{TRAINING}), rewind=1,
    margin=1.5, work_dir="python",
)
"""


@pytest.mark.slow
def test_flags_a_flagfile_and_python_give_the_same_bytes(tmp_path):
    flags = [*FLAGS, "--noprogress", "--noreport", f"--cache_dir={tmp_path / 'cache'}"]
    (tmp_path / "all.flags").write_text("\n".join(flags))
    command = ["-m", "lth_flax.experiments.winning_ticket"]
    for arguments in ([*command, *flags, "--work_dir=flags"], ["-c", PYTHON]):
        subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            check=True,
            stdout=subprocess.DEVNULL,
        )
    # Forked, as other tests take for a command: see `commands`.
    flags = ["--flagfile=all.flags", "--work_dir=flagfile"]
    assert commands.run(*command[1:], *flags, cwd=tmp_path, quick=False).returncode == 0
    for name in ("records.csv", "curves.csv", "predictions.npz", "summary.json"):
        whole = (tmp_path / "flags" / name).read_bytes()
        assert whole.count(b"\n") > 1 or name.endswith(".npz")
        assert (tmp_path / "flagfile" / name).read_bytes() == whole, name
        assert (tmp_path / "python" / name).read_bytes() == whole, name
