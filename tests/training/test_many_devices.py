"""One step's gradients on 1, 2, 4 and 8 devices: with fewer cores than devices bits may differ."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

SCRIPT = """
import sys
from functools import partial
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
import numpy as np
from lth_flax.randomness import key
from lth_flax.training.replicates import Engine
from lth_flax.training.steps import Row, initial_state, train_step
from test_replicates import BUCKETS, TASK, make_replicate, spied

task = TASK._replace(optimizer=spied)
batch = {**BUCKETS[0], "weight": np.ones(20, np.float32)}
rows = [make_replicate(number) for number in range(8)]

def one_step(state, row, batch):
    state, loss = train_step(task, state, row, batch)
    return state.opt_state.inner[0], loss

found = {}
for devices in (1, 2, 4, 8):
    engine = Engine("map", tuple(jax.devices()[:devices]), 8)
    fixed = Row(
        engine.place_rows([key(one.seed, "dropout") for one in rows]),
        engine.place_stacked(np.ones(8, np.float32)),
    )
    params = engine.place_rows([one.params for one in rows])
    masks = engine.place_rows([one.mask for one in rows])
    step = engine.place_stacked(np.zeros(8, np.int32))
    state = engine.lift(partial(initial_state, task))(params, (masks, fixed, step), ())
    result = engine.lift(one_step)(state, (fixed,), (batch,))
    assert len(jax.tree.leaves(result)[0].sharding.device_set) == devices
    for number, leaf in enumerate(jax.tree.leaves(jax.device_get(result))):
        found[f"{devices}/{number}"] = leaf
np.savez(sys.argv[1], **found)
"""


@pytest.mark.slow
def test_gradients_of_a_step_agree_over_numbers_of_devices(tmp_path):
    file = tmp_path / "gradients.npz"
    path = os.pathsep.join([str(ROOT), str(HERE)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(file)],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with np.load(file) as found:
        leaves = sorted(name.partition("/")[2] for name in found if name.startswith("1/"))
        assert len(leaves) > 8  # every parameter's gradient, and the loss
        for leaf in leaves:
            one = found[f"1/{leaf}"]
            np.testing.assert_array_equal(found[f"2/{leaf}"], one)
            for devices in (4, 8):
                error = np.linalg.norm(found[f"{devices}/{leaf}"] - one)
                assert error <= 1e-5 * np.linalg.norm(one)
