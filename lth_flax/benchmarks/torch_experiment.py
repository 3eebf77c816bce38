"""Figure 3 as a plain, competent PyTorch script: one seed and one network after the other.

Packed sequences, batches of texts of like length in shuffled order, fused Adam,
masks kept; validation at every epoch, test at the last and at the best. Started
by `experiment`, one process per core, each with its share of the seeds:

  python -m lth_flax.benchmarks.torch_experiment SPECIFICATION.json SEED...

Prints one JSON object: test accuracy at the last epoch by seed, arm and level.
"""

import copy
import json
import math
import sys
from typing import Any

import numpy as np
import torch

from lth_flax.benchmarks.torch_model import Classifier, Masked
from lth_flax.config import Config
from lth_flax.data.dataset import Dataset, build_dataset
from lth_flax.data.sources import load_source

Texts = list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Batches: tokens [time, batch], lengths [batch] with the longest first, labels [batch]."""


def batches_of(dataset: Dataset, seed: int, split: str, size: int) -> Texts:
    """Texts of like length together."""
    texts = []
    for bucket, members in zip(dataset.buckets, dataset.members[seed][split], strict=True):
        for row in members:
            length = max(int(bucket["lengths"][row]), 1)  # packing takes no empty text
            ids = torch.from_numpy(bucket["tokens"][row][:length].astype(np.int64))
            texts.append((length, ids, int(bucket["labels"][row])))
    texts.sort(key=lambda text: -text[0])
    batches = []
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        tokens = torch.nn.utils.rnn.pad_sequence([ids for _, ids, _ in part])
        lengths = torch.tensor([length for length, _, _ in part])
        labels = torch.tensor([label for _, _, label in part])
        batches.append((tokens, lengths, labels))
    return batches


@torch.no_grad()
def accuracy(model: Classifier, batches: Texts) -> float:
    """Share of right answers."""
    model.eval()
    right = sum(int((model(t, n).argmax(1) == y).sum()) for t, n, y in batches)
    model.train()
    return right / sum(len(y) for _, _, y in batches)


def train(masked: Masked, data: dict[str, Texts], spec: dict[str, Any]) -> float:
    """To the last epoch; test accuracy there."""
    steps = spec["epochs"] * len(data["train"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        masked.optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))
    )
    best, best_state = -1.0, None
    for _ in range(spec["epochs"]):
        for number in torch.randperm(len(data["train"])).tolist():
            tokens, lengths, labels = data["train"][number]
            masked.step(tokens, labels, lengths)
            schedule.step()
        found = accuracy(masked.model, data["validation"])
        if found > best:
            best, best_state = found, copy.deepcopy(masked.model.state_dict())
    test = accuracy(masked.model, data["test"])
    last_state = copy.deepcopy(masked.model.state_dict())
    assert best_state is not None
    masked.model.load_state_dict(best_state)
    accuracy(masked.model, data["test"])
    masked.model.load_state_dict(last_state)
    return test


def run_seed(dataset: Dataset, seed: int, spec: dict[str, Any]) -> dict[str, float]:
    """Dense, then a ticket and a reinitialized control per level, iteratively."""
    torch.manual_seed(seed)
    data = {
        split: batches_of(dataset, seed, split, spec["batch_size"] * (1 if split == "train" else 4))
        for split in ("train", "validation", "test")
    }

    def fresh() -> Classifier:
        return Classifier(
            dataset.vocabulary_size,
            spec["embedding_size"],
            spec["hidden_size"],
            spec["num_layers"],
            len(dataset.class_names),
            spec["dropout"],
        ).train()

    model = fresh()
    initial = copy.deepcopy(model.state_dict())
    dense = Masked(model, spec["learning_rate"])
    results = {"dense": train(dense, data, spec)}
    previous = dense
    for level in spec["levels"]:
        previous.prune(level)
        masks = previous.masks
        for arm in ("ticket", "reinit"):
            model = fresh()
            if arm == "ticket":
                model.load_state_dict(initial)
            masked = Masked(model, spec["learning_rate"])
            masked.masks = masks
            masked.apply_masks()
            results[f"{arm} {level}"] = train(masked, data, spec)
            if arm == "ticket":
                previous = masked
    return results


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        spec = json.load(file)
    seeds = [int(seed) for seed in sys.argv[2:]]
    torch.set_num_threads(1)
    config = Config(**spec["data"])
    dataset = build_dataset(load_source(config), seeds, config)
    print(json.dumps({seed: run_seed(dataset, seed, spec) for seed in seeds}))


if __name__ == "__main__":
    main()
