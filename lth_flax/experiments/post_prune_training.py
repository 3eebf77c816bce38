"""Does training on after pruning help? Figure 4 of the paper, with the control it lacks.

Train, prune one-shot to every level, evaluate, train again with the mask kept,
evaluate; beside it the dense network trained on just as long:

  python -m lth_flax.experiments.post_prune_training --flagfile=configs/tweets_post_prune.flags

`--retraining` says how (Renda et al., arXiv 2003.02389): `finetune` goes on
from the final weights at a constant rate, with new orders of the data;
`rewind_lr` goes on from them with the learning rates and data orders of the
last `--retrain_epochs`; `rewind_weights` does these epochs again from the
weights, and the optimizer, of then. `--retrain_lr_factor` multiplies the rate
of each: in the paper ten.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from lth_flax import cli
from lth_flax.config import Config
from lth_flax.data.sources import load_source
from lth_flax.errors import UserError
from lth_flax.experiments.prune_after_training import train_and_prune
from lth_flax.pruning.levels import Level
from lth_flax.runs import grid
from lth_flax.runs.choices import chosen_levels, seed_block
from lth_flax.runs.devices import configure_jax
from lth_flax.runs.results import Entry, Method
from lth_flax.runs.run import Again, Run
from lth_flax.runs.shapes import train_shapes
from lth_flax.text_tasks import prepare_data, text_setups
from lth_flax.training.table import Span, Start


def main(config: Config) -> None:
    levels, seeds = chosen_levels(config), seed_block(config)
    shapes = grid.shapes(config)
    again = config.retrain_epochs
    for shape in shapes:
        if config.retraining != "finetune" and again > shape.epochs:
            raise UserError(
                f"--retrain_epochs={again} goes back further than --epochs={shape.epochs}: "
                f"expected at most that with --retraining={config.retraining}"
            )
    source = load_source(config)
    networks = len(seeds) * len(config.learning_rate)
    configure_jax(config)
    dataset = prepare_data(config, source, seeds)
    names = ("retraining", "retrain_epochs", "retrain_lr_factor")
    settings = {name: getattr(config, name) for name in names}
    method = Method(
        "post_prune_training", "oneshot", config.scope, config.text("criterion"), settings=settings
    )
    retrained = networks * (1 + len(levels))
    finetune = config.retraining == "finetune"
    train_shapes(
        config,
        method,
        text_setups(config, dataset, seeds, rows=retrained, then_constant=finetune),
        lambda run: _retrain(run, levels),
        rows=networks + retrained,
        epochs=[networks * shape.epochs + retrained * again for shape in shapes],
        masks=1,
        arm="retrained",
        draws={"dense_retrained": 1},
    )


def _retrain(run: Run, levels: Sequence[Level]) -> None:
    config, per_epoch = run.setup.config, run.setup.steps_per_epoch
    kind, again = config.retraining, config.retrain_epochs
    end = run.setup.trainer.workload.epochs
    back = (end - again) * per_epoch
    if kind == "finetune":
        span = Span(start=end * per_epoch, epochs=end + again)
    else:
        span = Span(start=back, epochs=end)
    keep = back if kind == "rewind_weights" else None
    networks = train_and_prune(run, levels, keep=keep)

    def start(dense: Again, pruned: Entry | None) -> Start:
        network = dense()
        mask = network.mask if pruned is None else pruned.replicate.start().mask
        if network.kept is None:
            return Start(network.params, mask)
        return Start(network.kept.params, mask, network.kept.opt_state)

    entries = []
    for dense, of_levels in networks:
        rate = of_levels[0].replicate.learning_rate
        whole = of_levels[0]._replace(arm="dense_retrained", level=0, target_sparsity=0.0)
        retrained = [(entry._replace(arm="retrained"), entry) for entry in of_levels]
        for entry, pruned in [(whole, None), *retrained]:
            row = replace(
                entry.replicate,
                start=partial(start, dense, pruned),
                learning_rate=rate * config.retrain_lr_factor,
            )
            entries.append(entry._replace(replicate=row, learning_rate=rate))
    run.train(entries, span)


if __name__ == "__main__":
    cli.run(main, name="post_prune_training")
