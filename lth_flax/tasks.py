"""What is trained, on what, and how: plain values that a user makes in a few lines.

A `Task` is three pure functions over any pytree of parameters, `Examples` are
arrays with their splits, `Training` says how one network is trained.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np

from lth_flax.config import Config, settings_of
from lth_flax.data import stretches
from lth_flax.data.batches import SPLITS, Members, stratified_split
from lth_flax.errors import UserError
from lth_flax.types import Array, Batch, Mask, Params, Units

Arrays = Mapping[str, np.ndarray]
"""Name -> array; the leading axis is the examples."""


@dataclass(frozen=True)
class ModelInfo:
    """What is special to a network, for those who know of trees only.

    settings: makes the network again; stands in tickets.
    words: what it is, for a terminal.
    num_classes: of a classifier's output.
    is_connected: (params, mask) -> whether input still reaches output.
    units: params -> its groups of units, for what works on whole units.
    gates: path -> the names of the blocks of a parameter's last axis, if it has any.
    tempered: (params, temperature) -> parameters whose logits are divided by it.
    linearized: params, none negative -> the output of a linear network of these weights, which
      reads ones: a sum over paths.
    jacobian: (params, batch, key) -> how much of a state one step passes on.
    diagnostics: (params, mask) -> numbers for records, named "what/where".
    with_depth: (parameters or mask, depth) -> those of a stack of so many layers.
    """

    settings: Mapping[str, Any]
    words: str
    num_classes: int | None = None
    is_connected: Callable[[Params, Mask], bool] | None = None
    units: Units | None = None
    gates: Callable[[tuple[str, ...]], tuple[str, ...] | None] | None = None
    tempered: Callable[[Params, float], Params] | None = None
    linearized: Callable[[Params], Array] | None = None
    jacobian: Callable[[Params, Batch, Array], Array] | None = None
    diagnostics: Callable[[Params, Mask], Mapping[str, float]] | None = None
    with_depth: Callable[[Any, int], Any] | None = None


@dataclass(frozen=True)
class Task:
    """What is trained: pure functions of the parameters, which are any pytree of arrays.

    init: (key) -> params.
    loss: (params, batch, key) -> scalar, the mean weighted by batch["weight"],
      which is 1 for a real example and 0 for one that only fills up the batch;
      the key is for dropout.
    evaluate: (params, batch) -> {"correct": [B], "loss": [B], ...}: one number
      per example, no dropout.
    metrics: (outputs, examples) -> {"accuracy": float, ...}, on the host, over a
      split. Default: the mean of each output, "correct" named "accuracy".
    primary: the metric that networks are compared by, and epochs chosen.
    higher_is_better: of the primary metric.
    model: what records, pages and tickets are told of the network, if anything.
    carry: (batch_size) -> state, any pytree of arrays: of a task with a memory from batch to batch,
      on `Examples.streams`. Then loss is (params, batch, key, state) -> (scalar, state), and
      evaluate (params, batch, state) -> (outputs, state). The state is that of `carry` at the
      start of every epoch and of every split that is evaluated; gradients do not flow through it.
    name, version: what a work directory knows the task by.
    start: (params, seed) -> params: puts into every initialization of a seed what
      is not drawn, such as word vectors from a file (host arrays).
    settings: what stands in records besides the settings of training.
    files: digests of the files that it was made from.
    about: what provenance says of it; sentences: what a terminal does.
    """

    init: Callable[[Array], Params]
    loss: Callable[..., Any]
    evaluate: Callable[..., Any]
    metrics: Callable[[Arrays, Arrays], Mapping[str, float]] | None = None
    primary: str = "accuracy"
    higher_is_better: bool = True
    model: "ModelInfo | None" = None
    carry: Callable[[int], Any] | None = None
    name: str | None = None
    version: str | None = None
    start: Callable[[Params, int], Params] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("init", "loss", "evaluate", "metrics", "carry"):
            given = getattr(self, name)
            if not callable(given) and not (given is None and name in ("metrics", "carry")):
                raise UserError(
                    f"Task({name}=...) is a {type(given).__name__}: expected a function"
                )

    @property
    def functions(self) -> list[Callable[..., Any]]:
        """What the task is made of: its results depend on their source."""
        own = (self.init, self.loss, self.evaluate, self.metrics, self.carry)
        return [function for function in own if function is not None]

    def measure(self, outputs: Arrays, examples: Arrays) -> dict[str, float]:
        """The metrics of a split.

        Raises:
          UserError: the primary metric is not among them.
        """
        if self.metrics is None:
            found = {
                "accuracy" if name == "correct" else name: float(np.mean(values, dtype=np.float64))
                for name, values in outputs.items()
            }
        else:
            given = self.metrics(outputs, examples)
            if not isinstance(given, Mapping) or any(map(_is_no_number, given.values())):
                raise UserError(
                    "the task's metrics returned something else than a dict of numbers: expected "
                    f"such as {{{self.primary!r}: 0.5}}"
                )
            found = {name: float(value) for name, value in given.items()}
        if self.primary not in found:
            raise UserError(
                f"the task's primary metric {self.primary!r} is none of its metrics "
                f"({', '.join(found)}): expected evaluate or metrics to return it, or primary= to "
                "name one of these, with higher_is_better=False where lower is better"
            )
        return found


@dataclass(frozen=True)
class Training:
    """How one network is trained. The settings and bounds are those of the flags of these names.

    optimizer: a name, or a function learning_rate -> optax.GradientTransformation
      whose state does not depend on the rate. A function is used as it is:
      weight_decay, momentum and clip_norm are of named optimizers.

    Raises:
      UserError: a value is none of its setting.
    """

    epochs: int
    batch_size: int
    optimizer: str | Callable[[Any], Any] = "adam"
    learning_rate: float = 3e-3
    lr_schedule: str = "cosine"
    warmup: float = 0.0
    weight_decay: float | None = None
    momentum: float = 0.9
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        known = settings_of(Config)
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if name == "optimizer" and callable(value):
                continue
            if name == "optimizer" and hasattr(value, "update"):
                raise UserError(
                    "Training(optimizer=...) is an optimizer itself: expected a function of the "
                    "learning rate that returns one, such as lambda rate: optax.adam(rate, b2=0.99)"
                )
            try:
                value = known[name].read(value)
            except ValueError as error:
                raise UserError(f"Training({name}={value!r}): {error}") from None
            if known[name].many:
                if len(value) > 1:
                    raise UserError(f"Training({name}={value!r}): expected one value")
                (value,) = value
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class Examples:
    """Resident examples in buckets, and which of them a seed trains on, validates and tests.

    Examples of a bucket have arrays of equal shapes; a text task has one bucket
    per padded length. Made by `from_arrays`, `split` or `streams`.

    draw: seed -> split -> for each bucket, positions in its arrays; the counts
      are those of every seed.
    fingerprint: SHA-256 over the arrays and how they are split.
    name: what records call the data.
    test_drawn: whether every seed draws its own test split: intervals depend on it.
    about: what provenance says of it; sentences, warnings: what a terminal does.
    of_ticket: seed -> what a ticket has to say of its data.
    are_streams: whether examples are stretches of streams, which keep their order.
    """

    buckets: tuple[Arrays, ...]
    draw: Callable[[int], Mapping[str, Members]] = field(repr=False)
    fingerprint: str
    name: str = "arrays"
    test_drawn: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    of_ticket: Callable[[int], Mapping[str, Any]] | None = None
    are_streams: bool = False

    @classmethod
    def from_arrays(
        cls,
        train: Arrays | Sequence[Arrays],
        validation: Arrays | Sequence[Arrays],
        test: Arrays | Sequence[Arrays],
    ) -> "Examples":
        """Splits that are the same for every seed.

        Args:
          train, validation, test: arrays [N, ...] by name, or a list of such
            dicts, one per length bucket.

        Raises:
          UserError: splits or buckets do not fit each other.
        """
        given = zip(SPLITS, (train, validation, test), strict=True)
        parts = [_buckets(name, part) for name, part in given]
        if len({len(part) for part in parts}) > 1:
            _refuse("from_arrays", "every split needs as many buckets, an empty one where need be")
        buckets: list[Arrays] = []
        members: dict[str, list[np.ndarray]] = {name: [] for name in SPLITS}
        for number, pieces in enumerate(zip(*parts, strict=True)):
            _check_alike(pieces, number)
            buckets.append({n: np.concatenate([p[n] for p in pieces]) for n in pieces[0]})
            ends = np.cumsum([_count(piece) for piece in pieces])
            positions = np.split(np.arange(ends[-1], dtype=np.int32), ends[:-1])
            for name, of_split in zip(SPLITS, positions, strict=True):
                members[name].append(of_split)
        fixed = {name: tuple(of_buckets) for name, of_buckets in members.items()}
        _check_sizes(fixed)
        sizes = [[len(part) for part in fixed[name]] for name in SPLITS]
        return cls(tuple(buckets), lambda seed: fixed, _fingerprint(buckets, sizes))

    @classmethod
    def split(
        cls,
        arrays: Arrays | Sequence[Arrays],
        *,
        validation: float = 0.1,
        test: float = 0.2,
        stratify: str | None = None,
    ) -> "Examples":
        """Splits drawn anew for every seed, stratified by bucket and by an array of labels.

        Args:
          arrays: arrays [N, ...] by name, or a list of such dicts, one per length bucket.
          validation, test: shares of all examples, in (0, 1); the rest is for training.
          stratify: the name of an array of whole numbers [N] whose values every
            split has in equal shares.

        Raises:
          UserError: the shares leave nothing for a split, or there is no such array.
        """
        buckets = _buckets("arrays", arrays)
        if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
            _refuse("split", f"validation={validation} and test={test} have no sum below 1")
        counts = [_count(bucket) for bucket in buckets]
        number = np.repeat(np.arange(len(buckets)), counts)
        strata = number.astype(np.int64)
        if stratify is not None:
            if any(stratify not in bucket for bucket in buckets):
                _refuse("split", f"stratify={stratify!r} names none of the arrays")
            labels = np.concatenate([bucket[stratify] for bucket in buckets])
            if labels.ndim != 1 or labels.dtype.kind not in "iub":
                _refuse("split", f"stratify={stratify!r} is no array [N] of whole numbers")
            _, classes = np.unique(labels, return_inverse=True)
            strata = number * (int(classes.max()) + 1) + classes
        starts = np.cumsum([0, *counts])
        shares = {"validation": validation, "test": test}

        def draw(seed: int) -> Mapping[str, Members]:
            parts = stratified_split(strata, shares, seed=seed)
            return {
                name: tuple(
                    (rows[number[rows] == bucket] - starts[bucket]).astype(np.int32)
                    for bucket in range(len(buckets))
                )
                for name, rows in parts.items()
            }

        _check_sizes(draw(0))
        fingerprint = _fingerprint(buckets, [validation, test, stratify])
        return cls(tuple(buckets), draw, fingerprint, test_drawn=True)

    @classmethod
    def streams(
        cls,
        train: np.ndarray | Arrays,
        validation: np.ndarray | Arrays,
        test: np.ndarray | Arrays,
        *,
        length: int = stretches.LENGTH,
    ) -> "Examples":
        """Long sequences for a task with a memory (`Task.carry`): the same for every seed.

        Each is cut into stretches of `length` positions, and these into `batch_size` columns side
        by side; every batch has the next stretch of each column, in every epoch in this order.
        Evaluated are as many columns, or fewer where a split has not so many stretches. Fewer than
        `length` positions at the end of a sequence are left out.

        Args:
          train, validation, test: token ids, whole numbers [T]: then a batch has "tokens"
            [B, length] and "targets", the token that follows each of them. Or arrays [T, ...]
            by name, such as inputs and labels, which a batch has as they are, [B, length, ...].

        Raises:
          UserError: these are no sequences, or one is shorter than a stretch.
        """
        if isinstance(length, bool) or not isinstance(length, int | np.integer) or length < 1:
            _refuse("streams", f"length={length!r}: expected a whole number of positions from 1")
        given = zip(SPLITS, (train, validation, test), strict=True)
        found = cls.from_arrays(*(stretches.cut(name, part, int(length)) for name, part in given))
        return replace(found, are_streams=True)

    def of(self, seed: int, split: str) -> Arrays:
        """The arrays of a split in the order in which it is evaluated.

        Only arrays whose shapes agree over the buckets, such as labels.
        """
        members = self.draw(seed)[split]
        shapes = {
            name: {bucket[name].shape[1:] for bucket in self.buckets} for name in self.buckets[0]
        }
        return {
            name: np.concatenate(
                [bucket[name][rows] for bucket, rows in zip(self.buckets, members, strict=True)]
            )
            for name, found in shapes.items()
            if len(found) == 1
        }


def _is_no_number(value: Any) -> bool:
    return isinstance(value, str) or np.ndim(value) != 0


def _buckets(name: str, given: Arrays | Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    """One dict of arrays per bucket, checked."""
    parts = [given] if isinstance(given, Mapping) else list(given)
    if not parts or not all(isinstance(part, Mapping) and part for part in parts):
        _refuse(name, "expected a dict of arrays, or a list of such dicts")
    buckets = [{key: np.asarray(array) for key, array in part.items()} for part in parts]
    for bucket in buckets:
        if bucket.keys() != buckets[0].keys():
            _refuse(name, "every bucket needs arrays of the same names")
        if "weight" in bucket:
            _refuse(name, "'weight' is what a batch says of its padding: give it another name")
        for key, array in bucket.items():
            if array.dtype.kind not in "biuf":
                _refuse(name, f"{key} holds {array.dtype}: expected numbers or booleans")
            if array.ndim == 0 or len(array) != _count(bucket):
                _refuse(name, f"{key} has shape {array.shape}: expected [{_count(bucket)}, ...]")
    return buckets


def _count(bucket: Arrays) -> int:
    first = next(iter(bucket.values()))
    return len(first) if first.ndim else 1


def _check_alike(pieces: Sequence[Arrays], bucket: int) -> None:
    for name, piece in zip(SPLITS, pieces, strict=True):
        if piece.keys() != pieces[0].keys():
            _refuse(name, "every split needs arrays of the same names")
        for key, array in piece.items():
            first = pieces[0][key]
            if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
                _refuse(
                    name,
                    f"{key} of bucket {bucket} is {array.dtype}{list(array.shape[1:])} per "
                    f"example, in {SPLITS[0]} it is {first.dtype}{list(first.shape[1:])}",
                )


def _check_sizes(members: Mapping[str, Members]) -> None:
    for name in SPLITS:
        if not sum(map(len, members[name])):
            _refuse(name, "there is no example in this split: give more, or a larger share")


def _fingerprint(buckets: Sequence[Arrays], rule: Any) -> str:
    digest = hashlib.sha256(repr(rule).encode())
    for bucket in buckets:
        for name in sorted(bucket):
            array = np.ascontiguousarray(bucket[name])
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(array.data)
    return digest.hexdigest()


def _refuse(what: str, why: str) -> NoReturn:
    raise UserError(f"Examples ({what}): {why}")
