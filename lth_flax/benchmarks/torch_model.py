"""What a competent PyTorch user would write: the same network, masks and optimizer.

Started by `train_step`, does training steps when told to: one process per core, or one with all;
and by `accelerator`, on a GPU:

  python -m lth_flax.benchmarks.torch_model SHAPE THREADS [DEVICE [WORDS]]
"""

import sys

import torch
from torch import nn

from lth_flax.benchmarks import shapes


class Classifier(nn.Module):
    """Embedding, `nn.LSTM` in both directions, dropout, linear head."""

    def __init__(
        self, words: int, features: int, hidden: int, layers: int, classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, features)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(features, hidden, layers, bidirectional=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """tokens [time, batch]; without `lengths`, all texts are as long as the batch.

        With them, packed: `lengths` [batch] on the host, longest first, none zero.
        """
        inputs = self.embedding(tokens)
        if lengths is not None:
            inputs = nn.utils.rnn.pack_padded_sequence(inputs, lengths)
        _, (final, _) = self.lstm(inputs)
        return self.head(self.dropout(torch.cat([final[-2], final[-1]], dim=1)))


class Masked:
    """A model, its optimizer, and masks kept at every step."""

    def __init__(self, model: Classifier, learning_rate: float) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
        self.prunable = [
            p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name
        ]
        self.masks = [torch.ones_like(p) for p in self.prunable]

    @torch.no_grad()
    def prune(self, sparsity: float) -> None:
        """Masks the smallest weights of all prunable tensors together, to this share."""
        scores = torch.cat(
            [(p.abs() * m).flatten() for p, m in zip(self.prunable, self.masks, strict=True)]
        )
        removed = round(sparsity * scores.numel())
        flat = torch.ones_like(scores)
        flat[torch.argsort(scores, stable=True)[:removed]] = 0.0
        parts = flat.split([p.numel() for p in self.prunable])
        self.masks = [f.reshape(p.shape) for f, p in zip(parts, self.prunable, strict=True)]
        self.apply_masks()

    @torch.no_grad()
    def apply_masks(self) -> None:
        for weights, mask in zip(self.prunable, self.masks, strict=True):
            weights.mul_(mask)

    def step(
        self, tokens: torch.Tensor, labels: torch.Tensor, lengths: torch.Tensor | None = None
    ) -> None:
        """One training step; pruned weights are zero before and after it."""
        loss = nn.functional.cross_entropy(self.model(tokens, lengths), labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        with torch.no_grad():
            for weights, mask in zip(self.prunable, self.masks, strict=True):
                assert weights.grad is not None
                weights.grad.mul_(mask)
        nn.utils.clip_grad_norm_(self.model.parameters(), shapes.CLIP_NORM)
        self.optimizer.step()
        self.apply_masks()


def main() -> None:
    name, threads, *rest = sys.argv[1:]
    shape, (device, words) = shapes.SHAPES[name], (*rest, "cpu", str(shapes.WORDS))[:2]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    model = Classifier(
        int(words), shape.features, shape.hidden, shape.layers, shapes.CLASSES, shapes.DROPOUT
    )
    masked = Masked(model.to(device).train(), shapes.LEARNING_RATE)
    masked.prune(shapes.SPARSITY)
    tokens = torch.randint(int(words), (shape.length, shape.batch), device=device)
    labels = torch.randint(shapes.CLASSES, (shape.batch,), device=device)

    wait = torch.cuda.synchronize if device == "cuda" else None
    shapes.serve(lambda: masked.step(tokens, labels), wait)


if __name__ == "__main__":
    main()
