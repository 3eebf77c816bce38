"""An interpolated Kneser-Ney trigram: what a language model has to beat.

Kneser & Ney (1995) in the interpolated form of Chen & Goodman (1999): a word after two others has
  p3(w | u v) = (c(u v w) - D)+ / c(u v .) + D N(u v .) / c(u v .) p2(w | v)
  p2(w | v)   = (N(. v w) - D)+ / N(. v .) + D N(v .) / N(. v .) p1(w)
  p1(w)       = N(. w) / N(. .)
where c counts occurrences and N different ones. Where u v (or v) was never seen, p2 (or p1) it is.
"""

import sys

import numpy as np


def kneser_ney(train, tokens, *, words, discounts=None):
    """The probability of every token of `tokens` from the third on, given the two before it.

    Args:
      train, tokens: ids below `words`.
      discounts: D of p3 and of p2; by default n1 / (n1 + 2 n2) of the counts of each.
    """
    u, v, w = (np.asarray(train[i : len(train) - 2 + i], np.int64) for i in range(3))
    seen, counts = np.unique((u * words + v) * words + w, return_counts=True)
    pairs = np.unique(seen // words, return_inverse=True)
    of_pair = np.bincount(pairs[1], counts)  # c(u v .)
    after_pair = np.bincount(pairs[1])  # N(u v .)
    ends, before_end = np.unique(seen % words**2, return_counts=True)  # v w, N(. v w)
    around = np.bincount(ends // words, before_end, words)  # N(. v .)
    bigrams = np.unique(np.asarray(train[:-1], np.int64) * words + train[1:])
    after = np.bincount(ends // words, minlength=words)  # N(v .), of those that follow a word
    before = np.bincount(bigrams % words, minlength=words)  # N(. w)
    d3, d2 = discounts or (discount(counts), discount(before_end))

    a, b, c = (np.asarray(tokens[i : len(tokens) - 2 + i], np.int64) for i in range(3))
    p1 = before[c] / before.sum()
    known = around[b] > 0
    all_around = np.where(known, around[b], 1)
    p2 = np.maximum(found(ends, before_end, b * words + c) - d2, 0) / all_around
    p2 = np.where(known, p2 + d2 * after[b] / all_around * p1, p1)
    of, kinds = (found(pairs[0], n, a * words + b) for n in (of_pair, after_pair))
    seen_of = np.where(of > 0, of, 1)
    p3 = np.maximum(found(seen, counts, (a * words + b) * words + c) - d3, 0) / seen_of
    return np.where(of > 0, p3 + d3 * kinds / seen_of * p2, p2)


def discount(counts):
    """Of how many were seen once and twice (Ney, Essen & Kneser 1994)."""
    once, twice = (np.count_nonzero(counts == n) for n in (1, 2))
    return once / (once + 2 * twice)


def found(keys, values, wanted):
    """The value of each wanted key, 0 where it is none of the sorted keys."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0).astype(np.float64)


def main(arguments):
    """Its perplexity on the validation and the test tokens of a flagfile's corpus.

    python tests/kneser_ney.py --flagfile=configs/language_model_5m.flags --data_dir=DIR
    """
    from lth_flax import cli
    from lth_flax.config import Config
    from lth_flax.data.corpus import read_corpus

    corpus = read_corpus(cli.parse(Config, arguments))
    train, words = corpus.splits["train"], len(corpus.vocabulary.words)
    for part in ("validation", "test"):
        probabilities = kneser_ney(train, corpus.splits[part], words=words)
        print(f"{part}: perplexity {np.exp(-np.log(probabilities).mean()):.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
