"""Made-up records, for tests of what reads records."""

import numpy as np

from lth_flax.analysis.pairing import Pairs
from lth_flax.records import Record

SETTINGS = {"hidden": 32, "learning_rate": 0.001, "num_layers": 2}


def record(**changes) -> Record:
    """One plausible row; every field can be changed."""
    arm, seed = changes.get("arm", "ticket"), changes.get("seed", 0)
    draw, level = changes.get("draw", 0), changes.get("target_sparsity", 0.5)
    values = {
        "row_id": f"{arm}/level={level:g}/seed={seed}/draw={draw}",
        "experiment": "winning_ticket",
        "dataset": "synthetic",
        "data_fingerprint": "abc123",
        "settings": SETTINGS,
        "schedule": "oneshot",
        "scope": "global",
        "criterion": "magnitude",
        "mask_from": "end of training",
        "arm": arm,
        "seed": seed,
        "draw": draw,
        "level": 1,
        "target_sparsity": level,
        "achieved_sparsity": level,
        "achieved_sparsity_all": level / 2,
        "checkpoint": "last",
        "epoch": 5,
        "best_epoch": 3,
        "split": "test",
        "examples": 1000,
        "accuracy": 0.8,
        "balanced_accuracy": 0.79,
        "loss": 0.5,
        "predicted_shares": (0.4, 0.6),
        "majority_accuracy": 0.55,
        "density": {},
        "connected": True,
        "mask_steps": 100,
        "diverged_epoch": None,
    }
    return Record(**(values | changes))


def dense(seed: int = 0, accuracy: float = 0.9, **changes) -> Record:
    return record(
        arm="dense", seed=seed, level=0, target_sparsity=0.0, accuracy=accuracy, **changes
    )


def pairs_of(runs: np.ndarray, levels=(0.8,)) -> Pairs:
    """Pairs from percentages [seeds, runs, levels]; run 0 is the ticket."""
    return Pairs(
        "ticket",
        "reinit",
        tuple(levels),
        tuple(range(len(runs))),
        (0.001,),
        runs[:, :, None, :],
        None,
        np.full((*runs.shape[:2], 1, runs.shape[2]), "", object),
    )


def from_array(
    accuracies: np.ndarray, levels: list[float], control: str = "reinit"
) -> list[Record]:
    """Rows from fractions [seeds, runs, levels]; run 0 is the ticket, the others are draws."""
    return [
        record(
            arm="ticket" if run == 0 else control,
            seed=seed,
            draw=max(run - 1, 0),
            target_sparsity=level,
            level=index + 1,
            accuracy=float(accuracies[seed, run, index]),
        )
        for seed in range(accuracies.shape[0])
        for run in range(accuracies.shape[1])
        for index, level in enumerate(levels)
    ]


def plausible_run(seeds: int = 8, levels: int = 9, layers: int = 2, **changes) -> list[Record]:
    """A whole experiment with dense, ticket, reinit (3 draws), shuffled and random arms."""
    rng = np.random.default_rng(7)
    sparsities = [round(1 - 0.71 ** (1 + k), 6) for k in range(levels)]
    rows = []
    for seed in range(seeds):
        base = 0.77 + 0.01 * rng.standard_normal()
        rows.append(dense(seed, base, **changes))
        for index, sparsity in enumerate(sparsities):
            for arm, draws, loss in (
                ("ticket", 1, 0.10),
                ("reinit", 3, 0.16),
                ("shuffled", 1, 0.22),
                ("random", 1, 0.4),
            ):
                for draw in range(draws):
                    drop = loss * sparsity**14 + 0.005 * rng.standard_normal()
                    accuracy = max(0.55, base - drop)
                    rows.append(
                        record(
                            arm=arm,
                            seed=seed,
                            draw=draw,
                            target_sparsity=sparsity,
                            level=index + 1,
                            accuracy=accuracy,
                            balanced_accuracy=accuracy - 0.01,
                            density=_density(sparsity, layers, arm),
                            **changes,
                        )
                    )
    return rows + [
        type(row)(**{**vars(row), "checkpoint": "best", "accuracy": min(1.0, row.accuracy + 0.004)})
        for row in rows
    ]


def _density(sparsity: float, layers: int, arm: str) -> dict[str, float]:
    rng = np.random.default_rng(1)
    density = {}
    for layer in range(layers):
        for direction in ("forward", "backward"):
            for kernel in ("input_kernel", "recurrent_kernel"):
                for gate in "ifgo":
                    tilt = 1 if arm == "random" else rng.uniform(0.6, 1.8)
                    share = (1 - sparsity) ** tilt
                    key = f"lstm_{layer}/{direction}/{kernel}/{gate}"
                    density[key] = share if share > 0.02 else 0.0
    return density | {"head/kernel": (1 - sparsity) ** 0.3}
