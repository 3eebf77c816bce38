"""The line between two networks, against networks whose line is known."""

import dataclasses

import jax
import numpy as np
import pytest

import lth_flax as lth
from lth_flax import cli
from lth_flax.analysis.stability import barrier, read_lines
from lth_flax.config import Config, StabilityConfig
from lth_flax.errors import Planned, UserError
from lth_flax.experiments import connectivity
from lth_flax.matching import SignedPermutation, match_units, permute_units
from lth_flax.runs import connectivity as runs
from lth_flax.runs.connectivity import COPY, copies_of, measure, score_line, with_copies
from lth_flax.runs.setup import build
from lth_flax.training.table import Kept, Outcome, Replicate, Span, Start

SETTINGS = {
    "dataset": "synthetic", "synthetic_size": 200, "embedding_size": 6, "hidden_size": 5,
    "num_layers": 1, "dropout": 0.3, "batch_size": 32, "max_shapes": 1, "seeds": "3:4",
}  # fmt: skip


@pytest.fixture(scope="module")
def setup():
    task, examples = lth.text_classification(**SETTINGS)
    config = Config(**SETTINGS, epochs=2, learning_rate=0.02)
    return build(config, task, with_copies(examples), [3, *copies_of([3])], epochs=2, rows=2)


def network(setup, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 1, leaf.shape).astype(leaf.dtype), setup.initialize(3)
    )


def test_a_network_has_no_barrier_to_itself_nor_to_its_permuted_copy_once_matched(setup):
    one = network(setup)
    loss, error = score_line(setup, 3, one, one, 5)
    assert barrier(loss) == 0
    assert barrier(error) == 0
    groups = setup.task.model.units(one)
    rng = np.random.default_rng(1)
    by = {
        g.name: SignedPermutation(rng.permutation(g.size), rng.choice([-1.0, 1.0], g.size))
        for g in groups
    }
    copy = permute_units(one, groups, by)
    loss, error = score_line(setup, 3, one, copy, 5)
    np.testing.assert_allclose(loss[0], loss[-1], rtol=1e-4)
    assert np.ptp(loss) > 0.05
    matched = permute_units(copy, groups, match_units(copy, one, groups))
    loss, error = score_line(setup, 3, one, matched, 5)
    assert np.ptp(loss) == barrier(loss) == 0
    assert np.ptp(error) == barrier(error) == 0


@pytest.mark.slow
def test_the_ends_of_a_line_are_scored_as_networks_are(setup):
    one, other = network(setup), network(setup, 1)
    loss, error = score_line(setup, 3, one, other, 3)
    for split, found in (("train", loss), ("test", error)):
        members = setup.examples.draw(3)[split]
        bucket = {name: array[members[0]] for name, array in setup.examples.buckets[0].items()}
        for at, params in ((0, one), (2, other)):
            outputs = setup.task.evaluate(params, bucket)
            expected = (
                float(np.mean(outputs["loss"]))
                if split == "train"
                else 100 * (1 - float(np.mean(outputs["correct"])))
            )
            np.testing.assert_allclose(found[at], expected, rtol=1e-4)


@pytest.mark.slow
def test_copies_share_a_split_and_part_where_they_are_told(setup):
    first, second = copies_of([3])
    assert {first, second} == {3 + COPY, 3 + 2 * COPY}
    draw = setup.examples.draw
    for split in ("train", "test"):
        np.testing.assert_array_equal(draw(first)[split][0], draw(3)[split][0])
    late = 2 * setup.steps_per_epoch - 1
    lines = {}
    for point, step in (("0", 0), ("late", late)):
        found = list(measure(setup, [3], rate=0.02, point=point, step=step, points=3))
        assert [line.matched for line in found] == [False, True]
        assert {line[:4] for line in found} == {(0.02, point, step, 3)}
        lines[point] = found[0]
    # One last step apart they have hardly parted; with all steps apart they have.
    assert abs(barrier(lines["late"].train_loss)) < 1e-3
    ends = lines["0"].train_loss
    assert ends[0] != ends[-1]


@pytest.mark.slow
def test_the_command_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch):
    config = StabilityConfig(
        **SETTINGS, epochs=1, learning_rate=(0.02, 0.05), rewind_points=("0", "50%"),
        line_points=3, work_dir=str(tmp_path / "run"), cache_dir="",
    )  # fmt: skip
    monkeypatch.setattr(connectivity, "configure_jax", lambda config: None)
    connectivity.main(config)
    said = capsys.readouterr().out
    assert said.count("units matched") == 4
    table = tmp_path / "run" / "connectivity.csv"
    whole = table.read_bytes()
    assert len(read_lines(table)) == 8
    # Killed after two of four: what is there counts, the rest is trained again.
    table.write_bytes(b"".join(whole.splitlines(keepends=True)[: 1 + 12]))
    connectivity.main(config)
    assert table.read_bytes() == whole
    assert (tmp_path / "run" / "connectivity.png").stat().st_size > 5_000
    with pytest.raises(UserError, match="other flags"):
        connectivity.main(dataclasses.replace(config, line_points=5))


@pytest.mark.parametrize("mask", [(0.0,), (0.0, 0.5)], ids=["dense", "tickets"])
def test_a_plan_counts_what_is_trained_and_scored(setup, monkeypatch, mask):
    spe = setup.steps_per_epoch
    points = {"0": 0, "late": spe + 1}
    seen, lines, controls = [], [], {}

    def spy(setup, rows, span):
        seen.extend([(span.epochs or 2) * spe - span.start] * len(rows))
        start = rows[0].start()
        scored = {("last", "test"): {"correct": np.ones(1)}}
        kept = Kept(start.params, None) if span.keep else None
        return [Outcome(start.params, start.mask, 1, (), scored, None, kept)] * len(rows)

    monkeypatch.setattr(runs, "_train", spy)
    monkeypatch.setattr(runs, "score_line", lambda *_: ((0.0,), (0.0,)))
    for point, step in points.items():
        options = {"points": 3, "sparsities": mask, "controls": controls}
        lines += measure(setup, [3], rate=0.02, point=point, step=step, **options)
    steps = list(points.values())
    part = runs.planned(setup, [3], rates=1, steps=steps, points=3, sparsities=mask)
    assert (part.rows, part.steps) == (len(seen), sum(seen))
    assert part.networks == 3 * len(lines)
    twice = runs.planned(setup, [3], rates=2, steps=steps, points=3, sparsities=mask)
    assert (twice.rows, twice.steps) == (2 * part.rows, 2 * part.steps)


def test_a_plan_is_told_and_nothing_is_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(connectivity, "configure_jax", lambda config: None)
    work = tmp_path / "run"
    arguments = [f"--{name}={value}" for name, value in SETTINGS.items()]
    config = cli.parse(
        StabilityConfig, [*arguments, "--plan", f"--work_dir={work}"], connectivity.NAME
    )
    with pytest.raises(Planned):
        connectivity.main(config)
    said = capsys.readouterr().out
    assert "Plan: 13 rows, " in said  # of five points two are step 0, which needs no dense network
    assert not work.exists()


@pytest.mark.slow
def test_copies_of_a_ticket_share_the_mask_of_the_end_of_dense_training(setup, monkeypatch):
    step = setup.steps_per_epoch
    seen = []

    def look(setup, seed, one, other, points, score=runs.score_line):
        seen.append((one, other))
        return score(setup, seed, one, other, points)

    monkeypatch.setattr(runs, "score_line", look)
    options = {"rate": 0.02, "point": "1", "step": step, "points": 3}
    dense, _, ticket, _ = measure(setup, [3], **options, sparsities=(0.0, 0.5))
    assert (dense.sparsity, dense.control_error, ticket.sparsity) == (0.0, None, 0.5)
    one, other = (zeros(params) for params in seen[2])
    # What the dense network trained to: the larger half of all kernels.
    begun = Start(setup.initialize(3), setup.full_mask(setup.initialize(3)))
    end = trained(setup, Replicate(lambda: begun, 3, 0.02), Span(keep=step))
    sizes = {name: np.abs(kernel) for name, kernel in kernels(end.params)}
    cut = np.median(np.concatenate([size.ravel() for size in sizes.values()]))
    for name, size in sizes.items():
        np.testing.assert_array_equal(one[name], size < cut)
        np.testing.assert_array_equal(other[name], size < cut)
    # Each copy is what goes on from the rewind point under that mask, and errs as it does.
    mask = jax.tree.map(
        lambda leaf, kept: np.abs(leaf) >= cut if np.ndim(kept) else kept, end.params, begun.mask
    )
    starts = [Start(end.kept.params, mask, end.kept.opt_state), Start(setup.initialize(3, 0), mask)]
    for start, begin, errors in (
        (starts[0], step, [ticket.test_error[0], ticket.test_error[-1]]),
        (starts[1], 0, [ticket.control_error]),
    ):
        ends = [
            trained(setup, Replicate(lambda start=start: start, copy, 0.02), Span(begin))
            for copy in copies_of([3])
        ]
        found = [100 * (1 - float(e.outputs["last", "test"]["correct"].mean())) for e in ends]
        np.testing.assert_allclose(np.mean(found), np.mean(errors), atol=1e-9)


def trained(setup, replicate, span):
    (finished,) = setup.trainer.train([replicate], span=span)
    return finished.outcomes()[0]


def kernels(params):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if "kernel" in jax.tree_util.keystr(path):
            yield jax.tree_util.keystr(path), np.asarray(leaf)


def zeros(params):
    return {name: kernel == 0 for name, kernel in kernels(params)}


def test_what_is_no_rewind_point_is_one_line():
    for point in ("200%", "soon", "5"):
        with pytest.raises(UserError, match=r"--rewind_points=.* is no point of training"):
            connectivity.main(StabilityConfig(**SETTINGS, epochs=2, rewind_points=("0", point)))
    with pytest.raises(UserError, match="line_points"):
        cli.parse(StabilityConfig, ["--line_points=1"])
    with pytest.raises(UserError, match="mask"):
        cli.parse(StabilityConfig, ["--mask=0.5,1"])
