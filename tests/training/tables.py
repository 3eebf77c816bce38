"""Tables whose rows are at hand, and what became of them all at once, for tests."""

from dataclasses import dataclass
from typing import Any

from lth_flax.training.table import Replicate, Start


@dataclass(frozen=True)
class Given:
    """A replicate whose trees are there from the beginning."""

    params: Any
    mask: Any
    seed: int
    learning_rate: float
    opt_state: Any = None
    own: Any = ()
    frozen: bool = False

    def replicate(self):
        start = Start(self.params, self.mask, self.opt_state, self.own, self.frozen)
        return Replicate(lambda: start, self.seed, self.learning_rate)


def outcomes_of(trainer, rows, **options):
    """The outcome of every row."""
    slices = trainer.train([row.replicate() for row in rows], **options)
    return [outcome for finished in slices for outcome in finished.outcomes()]
