"""Sources in TFDS directories, read without TensorFlow."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from lth_flax.data import imdb
from lth_flax.data.cleaning import clean_text
from lth_flax.data.labels import check_number_of_classes
from lth_flax.data.source import Source, SourceOptions, make_source
from lth_flax.errors import UserError

_FORMAT = "array_record"


class _Split(NamedTuple):
    """Texts as they are stored; labels as numbers, -1 where a class is missing."""

    texts: list[str]
    labels: Int[np.ndarray, "texts"]


def imdb_reviews(options: SourceOptions) -> Source:
    """The Large Movie Review Dataset (Maas et al., 2011): 25,000 + 25,000 reviews."""
    return read_tfds("imdb_reviews", options, prepare=imdb.prepare_imdb)


def read_tfds(
    name: str,
    options: SourceOptions,
    *,
    known: Sequence[str] = (),
    prepare: Callable[[Path], None] | None = None,
) -> Source:
    """Reads the splits of a prepared set: train, and test where there is one.

    Where there is no test split, or its labels are withheld (-1), `validation` is
    the official test. Single texts without a label, and classes
    without a text, are left out, which the notes say.

    Args:
      known: other datasets, for what is said of an unknown name.
      prepare: makes the set where it is not there.

    Raises:
      UserError: it is unknown, not prepared, or not as expected.
    """
    import tensorflow_datasets as tfds

    data_dir = Path(os.path.expanduser(options.data_dir or tfds.core.constants.DATA_DIR))
    full_name = _with_configuration(name, data_dir)
    with imdb.quiet_tfds():
        builder = _builder(full_name, data_dir, known)
        keys = _keys(name, builder.info.features, options)
    if not Path(builder.data_dir).is_dir():
        if prepare is None:
            raise _not_prepared(name, builder, data_dir)
        prepare(data_dir)
    with imdb.quiet_tfds():
        builder = _builder(full_name, data_dir, known)
        splits, read, notes = _splits(name, builder, keys)
        feature = builder.info.features[keys[1]]
    if config := builder.builder_config:
        notes.insert(0, f"{name}: configuration {config.name}, version {builder.version}")
    labels = np.concatenate([split.labels for split in splits.values()])
    class_names: Sequence[str] | None = getattr(feature, "names", None)
    values = np.unique(labels)
    if class_names is None:
        class_names = [str(value) for value in values]
    else:
        unused = [label for k, label in enumerate(class_names) if k not in values]
        if unused and len(values) > 1:
            notes.append(f"{name}: no text is of class {', '.join(unused)}: left out")
        class_names = [class_names[value] for value in values]
    check_number_of_classes(name, keys[1], class_names)
    lengths = [len(split.texts) for split in splits.values()]

    official_test = None
    if "test" in splits:
        official_test = np.repeat([split == "test" for split in splits], lengths)
    return make_source(
        name,
        [clean_text(raw) for split in splits.values() for raw in split.texts],
        np.searchsorted(values, labels),
        class_names,
        official_test=official_test,
        files=_files(builder, read),
        notes=notes,
    )


# Which set it is ----------------------------------------------------------------------


def _prepared(folder: Path) -> list[str]:
    """The configurations of a set that are in its folder; none for one without any."""
    versions = folder.glob("*/*/dataset_info.json") if folder.is_dir() else ()
    return sorted({p.parent.parent.name for p in versions if re.match(r"\d", p.parent.name)})


def _with_configuration(name: str, data_dir: Path) -> str:
    """The name with the configuration that is prepared, where none is named.

    TFDS would take the first that its code lists.
    """
    match = re.fullmatch(r"(\w+)(:[\w.*]+)?", name)
    if not match:
        return name
    prepared = _prepared(data_dir / match[1])
    if len(prepared) > 1:
        choices = ", ".join(f"{match[1]}/{config}" for config in prepared[:20])
        raise UserError(
            f"{name} is prepared in {len(prepared)} configurations in {data_dir}: expected one of "
            f"them by name; give --dataset as one of {choices}"
        )
    return f"{match[1]}/{prepared[0]}{match[2] or ''}" if prepared else name


def _builder(name: str, data_dir: Path, known: Sequence[str]) -> Any:
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except Exception as error:  # not found, not a name, a hub that is not installed, damaged
        first = re.match(r"\w+", name)
        folder = data_dir / first.group() if first else data_dir
        if not first or not folder.is_dir():
            raise UserError(
                f"unknown dataset {name!r}: expected {', '.join(known)}, or the name of a TFDS "
                "text classification set"
            ) from None
        config = re.match(r"\w+/([^:]+)", name)
        prepared = _prepared(folder)
        if config and config[1] not in prepared:
            choices = ", ".join(f"{first.group()}/{one}" for one in prepared[:20]) or "none"
            raise UserError(
                f"{name} is not prepared in {data_dir}: found {choices}; give one of these as "
                f"--dataset, or prepare it with `tfds build {name} --file_format={_FORMAT}`"
            ) from None
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot read {name} in {folder} ({reason}): expected a complete TFDS data set; move "
            "that folder away and prepare it again, or give another --data_dir"
        ) from None


def _not_prepared(name: str, builder: Any, data_dir: Path) -> UserError:
    configurations = list(builder.builder_configs)
    build = name
    choice = ""
    if configurations and "/" not in name:
        some = ", ".join(configurations[:20]) + (", ..." if len(configurations) > 20 else "")
        choice = f" (its configurations: {some}; name one as --dataset={name}/CONFIGURATION)"
        build = f"{name}/CONFIGURATION"
    return UserError(
        f"{name} is not prepared in {data_dir}: expected {builder.data_dir}{choice}; prepare it "
        f"with `tfds build {build} --file_format={_FORMAT}`, or give its --data_dir"
    )


def _keys(name: str, features: Any, options: SourceOptions) -> tuple[str, str]:
    """Names of the text feature and of the label feature."""
    import tensorflow_datasets as tfds

    kinds = dict(features.items()) if hasattr(features, "items") else {}
    texts = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.Text)]
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    integers = [
        key
        for key, kind in kinds.items()
        if kind.shape == () and np.issubdtype(kind.np_dtype, np.integer)
    ]

    def choose(flag: str, given: str | None, unique: list[str], allowed: list[str]) -> str:
        default = flag.removesuffix("_key")
        if given is None:
            given = default if default in allowed else unique[0] if len(unique) == 1 else None
        if given in allowed:
            return given
        features_are = f"its features are {', '.join(kinds) or features}"
        if not allowed:
            kind = "a text" if default == "text" else "a class or a whole number"
            raise UserError(
                f"{name} has no feature that is {kind}, so it cannot be learned from: "
                f"{features_are}; give another --dataset"
            )
        what = f"has no {default} called {given!r}" if given else f"has no one {default}"
        what += " (that is of another kind)" if given in kinds else ""
        raise UserError(
            f"{name} {what}: expected --{flag} to be one of {', '.join(allowed)}; {features_are}"
        )

    return (
        choose("text_key", options.text_key, texts, texts),
        choose("label_key", options.label_key, labels or integers, integers),
    )


# Splits -------------------------------------------------------------------------------


def _splits(
    name: str, builder: Any, keys: tuple[str, str]
) -> tuple[dict[str, _Split], tuple[str, ...], list[str]]:
    """Train and the official splits, without texts that have no label.

    Beside them the splits that they were read from, and what should be said of them.
    """
    is_class = hasattr(builder.info.features[keys[1]], "names")
    available = builder.info.splits
    if "train" not in available:
        raise UserError(
            f"{name} in {os.fspath(builder.data_dir)} has no train split (found "
            f"{', '.join(available) or 'none'}): choose a dataset that has one, or prepare it again"
        )
    found: dict[str, _Split] = {}
    notes = []
    for part in ("train", "test", "validation"):
        if part not in available:
            continue
        if part == "validation" and "test" in found:
            notes.append(f"{name}: its validation split is not read, a share of train is drawn")
            continue
        split = _read_split(name, builder, part, keys)
        # TFDS marks a missing class by -1. A number may be negative, but not in all of a split.
        missing = split.labels < 0
        if not is_class and not (split.labels == -1).all():
            missing = np.zeros(len(split.texts), bool)
        if missing.all():
            if part == "train":
                raise UserError(
                    f"{name}: no text of its train split has a label in {keys[1]!r} (all are -1, "
                    f"or there is none); expected labels: {_other_labels(builder, keys[1])}"
                )
            notes.append(f"{name}: the labels of its {part} split are withheld: not used")
            continue
        if missing.any():
            notes.append(f"{name}: {int(missing.sum()):,} texts of {part} without a label left out")
            kept = np.flatnonzero(~missing)
            split = _Split([split.texts[row] for row in kept], split.labels[kept])
        found[part] = split
    read = tuple(found)
    if "validation" in found:
        found["test"] = found.pop("validation")
        notes.append(f"{name}: its validation split is the test split here")
    return found, read, notes


def _files(builder: Any, splits: Sequence[str]) -> list[Path]:
    """What was read: descriptions, and the shards of these splits."""
    folder = Path(builder.data_dir)
    shards = [Path(path) for split in splits for path in builder.info.splits[split].filepaths]
    return sorted([*folder.glob("*.json"), *folder.glob("*.labels.txt"), *shards])


def _other_labels(builder: Any, key: str) -> str:
    features: Mapping[str, Any] = builder.info.features
    others = [
        other
        for other, kind in features.items()
        if other != key and kind.shape == () and np.issubdtype(kind.np_dtype, np.integer)
    ]
    if others:
        return f"give another --label_key ({', '.join(others)})"
    return "it has no other labels, so give another --dataset"


def _read_split(name: str, builder: Any, split: str, keys: tuple[str, str]) -> _Split:
    folder = os.fspath(builder.data_dir)
    stored = builder.info.file_format
    try:
        data = builder.as_data_source(split=split)
        # All at once: three times as fast as one by one.
        examples = data.__getitems__(list(range(len(data))))
    except Exception as error:  # another file format, missing or damaged files
        if stored is not None and stored.value != _FORMAT:
            raise UserError(
                f"{name} in {folder} is stored as {stored.value}, which is not read here; expected "
                f"{_FORMAT}: give another --data_dir and `tfds build {name} --file_format={_FORMAT}"
                " --data_dir=DIR` (the files may stay)"
            ) from None
        paths = [Path(path) for path in builder.info.splits[split].filepaths]
        lost = [path.name for path in paths if not path.exists()]
        if lost:
            raise UserError(
                f"cannot read split {split} of {name}: {', '.join(lost[:3])} of {len(paths)} files "
                f"not in {folder}; copy them there, or prepare it again in another --data_dir"
            ) from None
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"cannot read split {split} of {name} in {folder} ({reason}): expected whole "
            f"{_FORMAT} files; get them again, or prepare it again in another --data_dir"
        ) from None
    texts = [example[keys[0]].decode("utf-8", errors="replace") for example in examples]
    return _Split(texts, np.array([example[keys[1]] for example in examples], np.int64))
