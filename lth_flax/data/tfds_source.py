"""Sources in TFDS directories, read without TensorFlow."""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from lth_flax.config import Config, settings_of
from lth_flax.data import imdb
from lth_flax.data.cleaning import clean_text
from lth_flax.data.source import Source, official_splits
from lth_flax.errors import UserError
from lth_flax.settings import home_expanded

_FORMAT = "array_record"


_Split = tuple[list[str], Int[np.ndarray, "texts"]]
"""Texts as they are stored; labels as numbers, -1 where a class is missing."""


def imdb_reviews(config: Config) -> Source:
    """The Large Movie Review Dataset (Maas et al., 2011): 25,000 + 25,000 reviews."""
    return read_tfds(config, prepare=imdb.prepare_imdb)


def read_tfds(config: Config, *, prepare: Callable[[Path], None] | None = None) -> Source:
    """Reads the splits of a prepared set: train, and test where there is one.

    Where there is no test split, or its labels are withheld (-1), `validation` is
    the official test. Single texts without a label, and classes
    without a text, are left out, which the notes say.

    Args:
      prepare: makes the set where it is not there.

    Raises:
      UserError: it is unknown, not prepared, or not as expected.
    """
    import tensorflow_datasets as tfds

    name = config.dataset
    data_dir = Path(config.data_dir or home_expanded(tfds.core.constants.DATA_DIR))
    folder = _folder(name, data_dir)
    if folder is None and prepare is not None:
        prepare(data_dir)
        folder = _folder(name, data_dir)
    if folder is None:
        raise _not_prepared(name, data_dir)
    try:
        with imdb.quiet_tfds():
            return _read(tfds.builder_from_directory(folder), folder, config)
    except UserError:
        raise
    except Exception as error:  # whatever TFDS makes of damaged files and descriptions
        raise _damaged(name, folder, error) from None


def _read(builder: Any, folder: Path, config: Config) -> Source:
    name = config.dataset
    keys = _keys(name, builder.info.features, config)
    splits, read, notes = _splits(name, builder, keys)
    if builder.builder_config:
        configuration = f"{builder.builder_config.name}, version {builder.version}"
        notes.insert(0, f"{name}: configuration {configuration}")
    values, labels = np.unique(
        np.concatenate([found for _, found in splits.values()]), return_inverse=True
    )
    class_names = list(map(str, values))
    if names := getattr(builder.info.features[keys[1]], "names", None):
        class_names = [names[value] for value in values]
        unused = [label for label in names if label not in class_names]
        if unused and len(values) > 1:
            notes.append(f"{name}: no text is of class {', '.join(unused)}: left out")
    shards = [Path(path) for split in read for path in builder.info.splits[split].filepaths]
    return Source(
        name,
        [clean_text(raw) for texts, _ in splits.values() for raw in texts],
        labels,
        class_names,
        official_splits({split: len(texts) for split, (texts, _) in splits.items()}),
        files=sorted([*folder.glob("*.json"), *folder.glob("*.labels.txt"), *shards]),
        notes=notes,
    )


# Which set it is ----------------------------------------------------------------------


def _prepared(dataset: str, data_dir: Path) -> dict[tuple[str, str], Path]:
    """(name with its configuration, version) -> folder, of what is prepared of a set."""
    infos = sorted((data_dir / dataset).glob("*/dataset_info.json"))
    infos += sorted((data_dir / dataset).glob("*/*/dataset_info.json"))
    folders = [info.parent for info in infos if re.match(r"\d+\.", info.parent.name)]
    return {(str(path.parent.relative_to(data_dir)), path.name): path for path in folders}


def _folder(name: str, data_dir: Path) -> Path | None:
    """Where NAME[/CONFIGURATION][:VERSION] is prepared, in its newest version.

    Raises:
      UserError: it is in several configurations, and none is named; TFDS would
        take the first that its code lists.
    """
    match = re.fullmatch(r"(\w+)(/[^/:]+)?(?::([\d.*]+))?", name)
    if not match:
        raise _unknown(name)
    dataset, configuration, version = match.groups()
    pattern = (version or "*").replace(".", r"\.").replace("*", ".*")
    fitting = {
        key: folder
        for key, folder in _prepared(dataset, data_dir).items()
        if (configuration is None or key[0] == dataset + configuration)
        and re.fullmatch(pattern, key[1])
    }
    full_names = sorted({full_name for full_name, _ in fitting})
    if len(full_names) > 1:
        raise UserError(
            f"{name} is prepared in {len(full_names)} configurations in {data_dir}: expected one "
            f"of them by name; give --dataset as one of {', '.join(full_names[:20])}"
        )
    newest = sorted(fitting, key=lambda key: [int(n) for n in re.findall(r"\d+", key[1])])[-1:]
    return fitting[newest[0]] if newest else None


def _unknown(name: str) -> UserError:
    expected = settings_of()["dataset"].expected
    return UserError(f"unknown dataset {name!r}: expected {expected}; give one as --dataset")


def _damaged(name: str, folder: Path, error: object) -> UserError:
    return UserError(
        f"cannot read {name} in {folder} ({' '.join(str(error).split())[:200]}): expected a "
        "complete TFDS data set; move that folder away and prepare it again, or give another "
        "--data_dir"
    )


def _not_prepared(name: str, data_dir: Path) -> UserError:
    import tensorflow_datasets as tfds

    dataset = re.split("[/:]", name)[0]
    build = f"`tfds build {name} --file_format={_FORMAT}`"
    if others := sorted({full_name for full_name, _ in _prepared(dataset, data_dir)}):
        return UserError(
            f"{name} is not prepared in {data_dir}: found {', '.join(others[:20])}; give one of "
            f"these as --dataset, or prepare it with {build}"
        )
    try:
        configurations = [config.name for config in tfds.builder_cls(dataset).BUILDER_CONFIGS]
    except Exception:  # no such set
        folder = data_dir / dataset
        return _damaged(name, folder, "no description") if folder.is_dir() else _unknown(name)
    choice = ""
    if configurations and "/" not in name:
        some = ", ".join(configurations[:20]) + (", ..." if len(configurations) > 20 else "")
        choice = f" (its configurations: {some}; name one as --dataset={name}/CONFIGURATION)"
        build = build.replace(name, f"{name}/CONFIGURATION")
    return UserError(
        f"{name} is not prepared in {data_dir}: expected {data_dir / dataset}{choice}; prepare it "
        f"with {build}, or give its --data_dir"
    )


def _keys(name: str, features: Any, config: Config) -> tuple[str, str]:
    """Names of the text feature and of the label feature."""
    import tensorflow_datasets as tfds

    # Sorted: a set that is read from disk has them in any order.
    kinds = dict(sorted(features.items())) if hasattr(features, "items") else {}
    texts = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.Text)]
    labels = [key for key, kind in kinds.items() if isinstance(kind, tfds.features.ClassLabel)]
    integers = _whole_numbers(kinds)

    def choose(what: str, given: str | None, unique: list[str], allowed: list[str]) -> str:
        if given is None:
            given = what if what in allowed else unique[0] if len(unique) == 1 else None
        if given in allowed:
            return given
        features_are = f"its features are {', '.join(kinds) or features}"
        if not allowed:
            kind = "a text" if what == "text" else "a class or a whole number"
            raise UserError(
                f"{name} has no feature that is {kind}, so it cannot be learned from: "
                f"{features_are}; give another --dataset"
            )
        found = f"has no {what} called {given!r}" if given else f"has no one {what}"
        found += " (that is of another kind)" if given in kinds else ""
        raise UserError(
            f"{name} {found}: expected --{what}_key to be one of {', '.join(allowed)}; "
            f"{features_are}"
        )

    return (
        choose("text", config.text_key, texts, texts),
        choose("label", config.label_key, labels or integers, integers),
    )


def _whole_numbers(features: Mapping[str, Any]) -> list[str]:
    """Features that may be labels: classes are numbers too."""
    return sorted(
        key
        for key, kind in features.items()
        if kind.shape == () and np.issubdtype(kind.np_dtype, np.integer)
    )


# Splits -------------------------------------------------------------------------------


def _splits(
    name: str, builder: Any, keys: tuple[str, str]
) -> tuple[dict[str, _Split], tuple[str, ...], list[str]]:
    """Train and the official splits, without texts that have no label.

    Beside them the splits that they were read from, and what should be said of them.
    """
    features, available = builder.info.features, builder.info.splits
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
        texts, labels = _read_split(name, builder, part, keys)
        # TFDS marks a missing class by -1. A number may be negative, but not in all of a split.
        labelled = labels >= 0
        if not hasattr(features[keys[1]], "names"):
            labelled[:] = (labels != -1).any()
        if labelled.any():
            if not labelled.all():
                count = int((~labelled).sum())
                notes.append(f"{name}: {count:,} texts of {part} without a label left out")
            kept = np.flatnonzero(labelled)
            found[part] = [texts[row] for row in kept], labels[kept]
        elif part == "train":
            others = [key for key in _whole_numbers(features) if key != keys[1]]
            remedy = "it has no other labels, so give another --dataset"
            if others:
                remedy = f"give another --label_key ({', '.join(others)})"
            raise UserError(
                f"{name}: no text of its train split has a label in {keys[1]!r} (all are -1, or "
                f"there is none); expected labels: {remedy}"
            )
        else:
            notes.append(f"{name}: the labels of its {part} split are withheld: not used")
    read = tuple(found)
    if "validation" in found:
        found["test"] = found.pop("validation")
        notes.append(f"{name}: its validation split is the test split here")
    return found, read, notes


def _read_split(name: str, builder: Any, split: str, keys: tuple[str, str]) -> _Split:
    folder = os.fspath(builder.data_dir)
    stored = builder.info.file_format
    if stored is not None and stored.value != _FORMAT:
        raise UserError(
            f"{name} in {folder} is stored as {stored.value}, which is not read here; expected "
            f"{_FORMAT}: give another --data_dir and `tfds build {name} --file_format={_FORMAT}"
            " --data_dir=DIR` (the files may stay)"
        )
    paths = [Path(path) for path in builder.info.splits[split].filepaths]
    lost = [path.name for path in paths if not path.exists()]
    if lost:
        raise UserError(
            f"cannot read split {split} of {name}: {', '.join(lost[:3])} of {len(paths)} files "
            f"not in {folder}; copy them there, or prepare it again in another --data_dir"
        )
    data = builder.as_data_source(split=split)
    # All at once: three times as fast as one by one.
    examples = data.__getitems__(list(range(len(data))))
    texts = [example[keys[0]].decode("utf-8", errors="replace") for example in examples]
    return texts, np.array([example[keys[1]] for example in examples], np.int64)
