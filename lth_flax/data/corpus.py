"""Corpora: running text as token ids, for language models.

A plain text is a line a sentence, a heading or a paragraph, as the Penn Treebank and Wikitext are
published; so is every text of a data set. Each ends with `END_WORD`, an empty line too.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from lth_flax.config import Config, settings_of
from lth_flax.data.batches import SPLITS
from lth_flax.data.cleaning import cleaning_of
from lth_flax.data.files import FILES, given_files, read_text
from lth_flax.data.source import drawn_shares
from lth_flax.data.sources import load_source
from lth_flax.data.text import (
    PADDING_WORD,
    UNKNOWN_ID,
    UNKNOWN_WORD,
    TokenizedTexts,
    Vocabulary,
    build_vocabulary,
)
from lth_flax.data.tokenizer import TOKENIZERS

END_WORD = "<eos>"
"""Ends every line or text."""

SPLITTERS = {**TOKENIZERS, "blanks": str.split}
"""How a line is split. Blanks: of a file that was tokenized, and has `UNKNOWN_WORD`."""


@dataclass(frozen=True)
class Corpus:
    """Token ids of each split, int32 [T], in the order of the text.

    vocabulary: of the training split: the most frequent words, `END_WORD` among them.
    tokenizer: one of `SPLITTERS`; cleaning: one of `cleaning.CLEANERS`.
    """

    name: str
    splits: Mapping[str, Int[np.ndarray, " tokens"]]
    vocabulary: Vocabulary
    tokenizer: str
    cleaning: str

    @property
    def unknown_shares(self) -> dict[str, float]:
        """The share of each split's tokens that are the unknown word."""
        return {name: float(np.mean(ids == UNKNOWN_ID)) for name, ids in self.splits.items()}


def read_corpus(config: Config) -> Corpus:
    """The corpus of the settings: plain text of --data_file, or the texts of a data set.

    Splits that are not given are the last tokens of the text that is: first what is trained on,
    then validation, then test.

    Raises:
      UserError: a file or data set cannot be read, or leaves nothing for a split.
    """
    of_files = bool(config.data_file) and config.dataset == settings_of()["dataset"].default
    if of_files:
        name, cleaning, texts = "text", "none", _of_files(config)
    else:
        name, cleaning, texts = _of_dataset(config)
    tokenizer = config.tokenizer
    if of_files and tokenizer == "words" and any(UNKNOWN_WORD in line for line in texts["train"]):
        tokenizer = "blanks"
    split = SPLITTERS[tokenizer]
    index: defaultdict[str, int] = defaultdict()
    index.default_factory = index.__len__  # an unseen word gets the next number
    found = {
        part: np.fromiter(
            (index[token] for line in lines for token in (*split(line), END_WORD)), np.int32
        )
        for part, lines in texts.items()
    }
    splits = _cut(found, config)
    words = tuple(index)
    vocabulary = _vocabulary(words, splits["train"], config)
    table = np.array([vocabulary.ids.get(word, UNKNOWN_ID) for word in words], np.int32)
    return Corpus(
        name, {p: table[ids] for p, ids in splits.items()}, vocabulary, tokenizer, cleaning
    )


def _of_files(config: Config) -> dict[str, list[str]]:
    """The lines of every file that is given."""
    texts = {
        part: read_text(path, wanted=f"a plain text as --{FILES[part]}", encoding=config.encoding)
        for part, path in given_files(config).items()
    }
    return {part: text.splitlines() for part, text in texts.items()}


def _of_dataset(config: Config) -> tuple[str, str, dict[str, list[str]]]:
    """(name, cleaning, texts of its own splits) of a data set."""
    source = load_source(config)
    own = {part: np.flatnonzero(inside) for part, inside in source.official.items()}
    rows = {"train": source.pool, **own}
    texts = {part: [source.texts[n] for n in some.tolist()] for part, some in rows.items()}
    return source.name, cleaning_of(config.dataset), texts


def _cut(found: Mapping[str, np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Every split, of no more tokens than the settings say."""
    drawn = drawn_shares(config, found)
    whole = found["train"]
    sizes = [round(share * len(whole)) for share in drawn.values()]
    ends = len(whole) - np.cumsum([0, *sizes[::-1]])[::-1]
    parts = dict(zip(("train", *drawn), np.split(whole, ends[:-1]), strict=True))
    splits = {part: {**found, **parts}[part] for part in SPLITS}
    if config.max_tokens:
        most = {part: getattr(config, f"{part}_share", 1.0) for part in SPLITS}
        splits = {p: ids[: round(most[p] * config.max_tokens)] for p, ids in splits.items()}
    return splits


def _vocabulary(words: tuple[str, ...], train: np.ndarray, config: Config) -> Vocabulary:
    """Of the training tokens; what stands for unknown words in a text is not counted again."""
    special = [number for number, w in enumerate(words) if w in (PADDING_WORD, UNKNOWN_WORD)]
    counted = train[~np.isin(train, special)]
    tokenized = TokenizedTexts(words, counted, np.array([0, len(counted)]))
    return build_vocabulary(
        tokenized, np.zeros(1, int), size=config.vocabulary_size, min_count=config.min_count
    )
