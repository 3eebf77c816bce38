"""The source of a plain PyTorch module for exported weights: no code of this project is in it."""

from typing import Any

from lth_flax.models.classifier import BiLSTMClassifier

_START = '''"""For weights.safetensors; with `load_pruned` also for pruned_weights.safetensors."""

import torch
from torch import nn
from torch.nn.utils import prune


'''

_ONE = '''class Classifier(nn.Module):
    """tokens [batch, time] and lengths [batch] -> logits [batch, classes]."""

    def __init__(self, words={words}, features={features}, hidden={hidden}, layers={layers},
                 classes={classes}):
        super().__init__()
        self.embedding = nn.Embedding(words, features)
        self.lstm = nn.LSTM(features, hidden, layers, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden, classes)

'''

_ONE_FINAL = """    def forward(self, tokens, lengths):
        steps = lengths.clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(tokens), steps, batch_first=True, enforce_sorted=False
        )
        final = torch.cat(tuple(self.lstm(packed)[1][0][-2:]), dim=1)
        return self.head(final * (lengths > 0)[:, None])  # a text without words reads nothing
"""

_ONE_LAST = """    def forward(self, tokens, lengths=None):
        return self.head(self.lstm(self.embedding(tokens))[0][:, -1])  # padding is read like text
"""

_SEPARATE = '''class Classifier(nn.Module):
    """tokens [batch, time] and lengths [batch] -> logits [batch, classes].

    An LSTM for every layer and direction, for their widths differ.
    """

    def __init__(self, words={words}, features={features}, widths={widths}, classes={classes}):
        super().__init__()
        self.embedding = nn.Embedding(words, features)
        sizes = [features, *(sum(pair) for pair in widths)]
        self.forward_lstms, self.backward_lstms = (
            nn.ModuleList(nn.LSTM(n, w[way], batch_first=True) for n, w in zip(sizes, widths))
            for way in (0, 1)
        )
        self.head = nn.Linear(sizes[-1], classes)

    def forward(self, tokens, lengths{default}):
        lengths = {lengths}
        time = torch.arange(tokens.shape[1], device=tokens.device)
        mirror = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)[..., None]
        states = self.embedding(tokens)
        for ahead, back in zip(self.forward_lstms, self.backward_lstms):
            mirrored = back(states.gather(1, mirror.expand_as(states)))[0]
            mirrored = mirrored.gather(1, mirror.expand_as(mirrored))
            forward = ahead(states)[0]
            states = torch.cat([forward, mirrored], dim=2)
'''

_SEPARATE_FINAL = """        last = forward[torch.arange(len(forward)), lengths.clamp(min=1) - 1]
        final = torch.cat([last, mirrored[:, 0]], dim=1)
        return self.head(final * (lengths > 0)[:, None])  # a text without words reads nothing
"""

_SEPARATE_LAST = """        return self.head(states[:, -1])  # padding is read like text
"""

_END = '''

def load_pruned(model, state):
    """Puts weights and masks of pruned_weights.safetensors into a model, to train on under them."""
    for key in [key for key in state if key.endswith("_mask")]:
        module, _, name = key.removesuffix("_mask").rpartition(".")
        prune.custom_from_mask(model.get_submodule(module), name, state[key])
    model.load_state_dict(state, strict=True)
    return model
'''


def module_source(model: BiLSTMClassifier, *, separate: bool) -> str:
    """The Python source of a plain PyTorch module that `state_dict` loads into with strict=True."""
    final = model.readout == "final"
    sizes: dict[str, Any] = {
        "words": model.vocabulary_size,
        "features": model.embedding_size,
        "classes": model.num_classes,
    }
    if separate:
        lengths = "lengths" if final else "torch.full_like(tokens[:, 0], tokens.shape[1])"
        default = "" if final else "=None"
        head = _SEPARATE.format(**sizes, widths=model.widths, lengths=lengths, default=default)
        body = head + (_SEPARATE_FINAL if final else _SEPARATE_LAST)
    else:
        hidden, layers = model.widths[0][0], model.num_layers
        body = _ONE.format(**sizes, hidden=hidden, layers=layers)
        body += _ONE_FINAL if final else _ONE_LAST
    return _START + body.replace("        lengths = lengths\n", "") + _END
