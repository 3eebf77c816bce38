"""What the inputs of a run carry: classes, unknown words, copies, lengths, word vectors.

Counts are plain numbers under plain names, for provenance and the report; `lines`
and `warnings` say the same to a reader.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from lth_flax.data.batches import SPLITS, Members
from lth_flax.data.source import Source
from lth_flax.data.text import BLOCK, UNKNOWN_ID, Vocabulary

Account = Mapping[str, Any]

MOSTLY = 0.5
"""Share of unknown tokens from which on a split is hardly read at all."""

REMEMBERED = 0.01
"""Share of a held-out split that training has as well, from which on it is said as a warning."""

LONG = 4
"""A text longer than so many times the length that 99% have is said."""

_MOST_CLASSES = 8


def count_classes(source: Source) -> dict[str, Any]:
    """Texts per class, and the largest class: who always answers it has its share right."""
    counts = np.bincount(source.labels, minlength=len(source.class_names))
    largest = int(np.argmax(counts))
    return {
        "class_counts": dict(zip(source.class_names, counts.tolist(), strict=True)),
        "largest_class": {
            "name": source.class_names[largest],
            "share": float(counts[largest] / max(counts.sum(), 1)),
        },
    }


def count_copies(
    copies: Int[np.ndarray, "texts"], labels: Int[np.ndarray, "texts"]
) -> dict[str, int]:
    """Texts that repeat an earlier one, and texts of which some copy has another label."""
    differs = np.zeros(len(copies), bool)
    differs[copies[labels != labels[copies]]] = True
    repeated = copies != np.arange(len(copies))
    return {"copies": int(repeated.sum()), "with_other_labels": int(differs[copies].sum())}


def copies_across(
    copies: Int[np.ndarray, "texts"], splits: Mapping[str, Int[np.ndarray, "members"]]
) -> dict[str, int]:
    """Of each held-out split, the texts that training has as well."""
    trained = np.zeros(len(copies), bool)
    trained[copies[splits["train"]]] = True
    return {split: int(trained[copies[splits[split]]].sum()) for split in SPLITS[1:]}


def count_tokens(
    buckets: Sequence[Mapping[str, np.ndarray]], members: Members, words: Bool[np.ndarray, "words"]
) -> tuple[int, int]:
    """Tokens of a split that are among `words` (by id, never padding), and all of its tokens."""
    found = total = 0
    for bucket, inside in zip(buckets, members, strict=True):
        for some in np.array_split(inside, len(inside) // BLOCK + 1):  # no copy of all texts
            found += int(words[bucket["tokens"][some]].sum())
        total += int(bucket["lengths"][inside].sum())
    return found, total


def count_unknown(
    buckets: Sequence[Mapping[str, np.ndarray]],
    members: Mapping[str, Members],
    vocabulary_size: int,
) -> dict[str, Any]:
    """Tokens of each split, and those that the vocabulary does not have."""
    unknown = np.arange(vocabulary_size) == UNKNOWN_ID
    counts = {split: count_tokens(buckets, members[split], unknown) for split in SPLITS}
    return {
        "tokens": {split: total for split, (_, total) in counts.items()},
        "unknown_tokens": {split: found for split, (found, _) in counts.items()},
        "unknown_share": {split: found / max(total, 1) for split, (found, total) in counts.items()},
    }


def count_lengths(lengths: Int[np.ndarray, "texts"]) -> dict[str, int]:
    """Tokens of the longest text, and of the longest but for one in a hundred."""
    usual = np.quantile(lengths, 0.99, method="higher")
    return {"longest_text": int(lengths.max()), "longest_of_99_percent": int(usual)}


def count_vectors(
    vocabulary: Vocabulary,
    found: Bool[np.ndarray, "words"],
    buckets: Sequence[Mapping[str, np.ndarray]],
    train: Members,
) -> dict[str, Any]:
    """Words with a vector, their share of the vocabulary and of the tokens of training."""
    words = int(found[UNKNOWN_ID + 1 :].sum())
    with_vector, tokens = count_tokens(buckets, train, found)
    return {
        "words": words,
        "share_of_vocabulary": words / max(len(vocabulary) - UNKNOWN_ID - 1, 1),
        "share_of_tokens": with_vector / max(tokens, 1),
    }


def lines(account: Account) -> list[str]:
    """What there is, for the terminal."""
    counts = account["class_counts"]
    some = [f"{name} {count:,}" for name, count in list(counts.items())[:_MOST_CLASSES]]
    if len(counts) > _MOST_CLASSES:
        some.append(f"{len(counts) - _MOST_CLASSES} more")
    largest = account["largest_class"]
    shares = " / ".join(f"{account['unknown_share'][split]:.1%}" for split in SPLITS)
    found = [
        *account["notes"],
        f"Classes: {', '.join(some)} (the largest, {largest['name']}, is {largest['share']:.1%})",
        f"Unknown tokens: {shares} of {' / '.join(SPLITS)}",
    ]
    copies = account["duplicates"]
    if copies["copies"]:
        across = copies["across_splits"]
        kept = ", the first keeps its label" if copies["rule"] == "drop" else ""
        found.append(
            f"Exact copies: {copies['copies']:,} texts repeat another "
            f"({copies['with_other_labels']:,} stand under several labels); "
            f"{copies['left_out']:,} left out{kept}; {across['test']:,} test and "
            f"{across['validation']:,} validation texts are in training too "
            f"(--duplicates={copies['rule']})"
        )
    return found


def vector_line(vectors: Mapping[str, Any]) -> str:
    """How much the word vectors cover."""
    return (
        f"Word vectors: {vectors['words']:,} words ({vectors['share_of_vocabulary']:.1%} of the "
        f"vocabulary, {vectors['share_of_tokens']:.1%} of the tokens of training)"
    )


def warnings(account: Account) -> list[str]:
    """What should make one look again."""
    found = []
    mostly = [split for split in SPLITS if account["unknown_share"][split] > MOSTLY]
    if mostly:
        remedy = "a larger --vocabulary_size or a smaller --min_count may help"
        if account["tokenizer"] == "words":
            remedy = (
                "where no blanks stand between words give --tokenizer=characters, else a larger "
                "--vocabulary_size or a smaller --min_count"
            )
        found.append(
            f"most tokens of {', '.join(mostly)} are unknown words, so the texts are hardly read: "
            f"{remedy}"
        )
    copies = account["duplicates"]
    across = copies["across_splits"]
    if any(count > REMEMBERED * account["sizes"][split] for split, count in across.items()):
        found.append(
            f"{across['test']:,} test and {across['validation']:,} validation texts are in "
            "training too: their accuracy is partly memory; --duplicates=group puts copies into "
            "one split, drop keeps the first of them"
        )
    longest, usual = account["longest_text"], account["longest_of_99_percent"]
    if longest > LONG * max(usual, 1):
        found.append(
            f"the longest text has {longest:,} tokens, 99% have at most {usual:,}: all texts of "
            f"its length bucket are padded to it; --max_length={max(usual, 1)} would cut it"
        )
    return found
