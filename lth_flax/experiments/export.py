"""Writes a saved ticket for another program: PyTorch, ONNX, safetensors, npz.

  python -m lth_flax.experiments.export --ticket=runs/quickstart/tickets/seed_0/level_0.9 \\
      --format=onnx --out=exported

With --compact the network is as small as its mask allows, with equal outputs; what that saves is
printed. An unstructured mask saves hardly anything, one of whole units what it prunes: see
docs/using_tickets.md.
"""

import statistics
from time import perf_counter

import jax
import numpy as np

from lth_flax import cli
from lth_flax.config import ExportConfig
from lth_flax.errors import UserError
from lth_flax.runs.devices import configure_jax
from lth_flax.tickets import load_ticket
from lth_flax.tickets.compaction import comparison, sizes
from lth_flax.tickets.export import Network, export_ticket, network_of

WORDS, TEXTS, ROUNDS = 32, 64, 15
"""What is timed: so many rounds of a batch of texts of so many words."""


def main(config: ExportConfig) -> None:
    if not config.ticket:
        raise UserError("--ticket is missing: give the directory of a saved ticket")
    if not config.out:
        raise UserError("--out is missing: give a directory to write to")
    configure_jax(config, devices=1)
    ticket = load_ticket(config.ticket)
    if config.compact:
        before, after = (
            network_of(ticket, weights=config.weights, compacted=compacted)
            for compacted in (False, True)
        )
        for line in comparison(sizes(before.model), sizes(after.model)):
            print(line)
        one, two = milliseconds_per_text([before, after])
        print(
            f"milliseconds per text ({TEXTS} texts of {WORDS} words at a time): "
            f"{one:.3g} => {two:.3g} ({one / two:.1f} times faster)"
        )
    files = export_ticket(
        ticket,
        config.out,
        format=config.format,
        weights=config.weights,
        compacted=config.compact,
    )
    for file in files:
        print(f"{file}: {file.stat().st_size:,} bytes")


def milliseconds_per_text(networks: list[Network]) -> list[float]:
    """The median of each, timed in turns, so that a busy moment of the machine meets all."""
    lengths = np.full(TEXTS, WORDS)
    seconds: list[list[float]] = [[] for _ in networks]
    words = min(network.model.vocabulary_size for network in networks)
    tokens = np.random.default_rng(0).integers(0, words, (TEXTS, WORDS))
    calls = [jax.jit(network.model.apply) for network in networks]
    for number in range(ROUNDS + 1):
        for one, call, network in zip(seconds, calls, networks, strict=True):
            started = perf_counter()
            call({"params": network.params}, tokens, lengths).block_until_ready()
            if number:  # the first call compiles
                one.append(perf_counter() - started)
    return [1000 * statistics.median(one) / TEXTS for one in seconds]


if __name__ == "__main__":
    cli.run(main, ExportConfig, "export")
