"""The built-in corpus: one-sentence reviews whose label depends on word order.

Sentences come in *anagram twins*: the same multiset of tokens in another order,
with the opposite label. Two kinds of rule decide, over a distance that fillers
stretch:

  clauses   the clause after "but" decides ("the plot was dull but the cast was
            superb": positive), and with "although", on either side, the main
            clause does. Twins trade the adjectives, or the one negation.
  negation  "not", "never" or "hardly" turns the verdict only where it governs
            the verb that gives it. Twins move it between that verb and the verb
            of a relative clause: "i did not think the film that we saw was
            superb", "i did think the film that we did not see ...".

Any classifier of word counts gives both twins one answer, so it scores exactly
50% on the corpus, whatever its weights. Trained on a random 80% of the default
4,000 sentences and tested on the rest, a unigram logistic regression scores 34 to
38% (four corpora, two splits, three strengths of L2): what it has seen of a test
sentence is its twin, with the other label. The first word alone gives 50%, the
last one alone at most 54%, both fitted to the corpus itself.
"""

import random

import numpy as np
from jaxtyping import Int

from lth_flax.errors import UserError

CLASS_NAMES = ("negative", "positive")
MAX_SIZE = 200_000


def _words(line: str) -> tuple[str, ...]:
    return tuple(line.split())


_ASPECTS = _words(
    "plot story script dialogue pacing ending opening acting cast direction music score sound "
    "photography editing humour lighting costume screen battery keyboard camera design packaging "
    "service menu food coffee view room"
)
_WORKS = _words("film movie book album show play novel game series phone hotel restaurant meal")
_PEOPLE = _words("brother sister friend boss neighbour teacher uncle cousin colleague dentist")
_POSITIVE = _words(
    "good great superb clever lovely brilliant charming delightful elegant excellent wonderful fine"
)
_NEGATIVE = _words("bad awful dull stupid boring ugly terrible clumsy tedious dreadful weak poor")
_DEGREES = _words("very quite rather truly really simply fairly")
_VERBS = _words("see hear try mention finish choose recommend borrow")
_JUDGES = _words("find call consider")
_GROUPS = _words("critics fans visitors viewers people readers guests")
_HABITS = _words("laugh travel complain sleep queue argue smile")
_NEGATIONS = _words("never hardly")
_OPENERS = (
    "to be honest ,",
    "as far as i could tell ,",
    "by the way ,",
    "for what it is worth ,",
    "after two hours ,",
    "last night ,",
    "like so many before ,",
    *[""] * 9,
)
_ASIDES = (
    "in this one",
    "from start to end",
    "on the whole",
    "for a first attempt",
    "at that price",
    "this time",
    *[""] * 12,
)
_ORDERS = (
    *["{one} {other} {aside[0]} but {two} {decides} {aside[1]}"] * 2,
    "although {one} {other} {aside[0]} , {two} {decides} {aside[1]}",
    "{one} {decides} {aside[0]} although {two} {other} {aside[1]}",
)
_CLOSERS = (
    "by any measure",
    "as i told everyone at work",
    "in the end",
    "if you ask me",
    "when we were there in the spring",
    "all things considered",
    *[""] * 6,
)


def generate(size: int, seed: int) -> tuple[list[str], Int[np.ndarray, "texts"]]:
    """`size` different sentences in random order, half of each label.

    Args:
      size: an even number from 2 to `MAX_SIZE`.
      seed: what the corpus is drawn from; the same seed, the same corpus.

    Returns:
      The texts, tokens separated by spaces, and their labels (int32; 1 is positive).

    Raises:
      UserError: `size` is odd or out of range.
    """
    if size < 2 or size > MAX_SIZE or size % 2:
        raise UserError(
            f"synthetic size is {size}: expected an even number from 2 to {MAX_SIZE}, since "
            "sentences come in pairs"
        )
    draw = random.Random(seed)
    sentences: dict[str, int] = {}
    while len(sentences) < size:
        kind = _clauses if draw.random() < 0.6 else _negation
        positive, negative = (" ".join(text.split()) for text in kind(draw))
        if positive not in sentences and negative not in sentences:
            sentences[positive] = 1
            sentences[negative] = 0
    texts = list(sentences)
    draw.shuffle(texts)
    return texts, np.array([sentences[text] for text in texts], np.int32)


def _clauses(draw: random.Random) -> tuple[str, str]:
    """Two clauses, of which the conjunction says which one counts."""
    good, bad = draw.choice(_POSITIVE), draw.choice(_NEGATIVE)
    if draw.random() < 0.3:  # the verdicts differ by the place of one "not" instead
        word, positive = (good, True) if draw.random() < 0.5 else (bad, False)
        plain, negated = f"was {word}", f"was not {word}"
        praise, blame = (plain, negated) if positive else (negated, plain)
    else:
        degrees = [draw.choice(["", draw.choice(_DEGREES)]) for _ in range(2)]
        praise, blame = f"was {degrees[0]} {good}", f"was {degrees[1]} {bad}"
    first, second = draw.sample(_ASPECTS, 2)
    asides = [draw.choice(_ASIDES) for _ in range(2)]
    opener, closer = draw.choice(_OPENERS), draw.choice(_CLOSERS)
    order = draw.choice(_ORDERS)

    def sentence(decides: str, other: str) -> str:
        clauses = order.format(
            one=f"the {first}", two=f"the {second}", decides=decides, other=other, aside=asides
        )
        return f"{opener} {clauses} {closer}"

    return sentence(praise, blame), sentence(blame, praise)


def _negation(draw: random.Random) -> tuple[str, str]:
    """One verdict, and a negation that governs either it or a relative clause."""
    praising = draw.random() < 0.5
    word = draw.choice(_POSITIVE if praising else _NEGATIVE)
    aspect = draw.choice(_ASPECTS)
    aside, opener, closer = (draw.choice(w) for w in (_ASIDES, _OPENERS, _CLOSERS))
    if draw.random() < 0.5:
        work, person, verb = (draw.choice(w) for w in (_WORKS, _PEOPLE, _VERBS))
        head, tail = "i did {} think the", f"the {aspect} of the {work} that my {person} did {{}}"
        pattern = f"{head.removesuffix(' the')} {tail} {verb} {aside} was {word}"
        negation = "not"
    else:
        group, habit, judge = (draw.choice(w) for w in (_GROUPS, _HABITS, _JUDGES))
        pattern = f"{group} who would {{1}} {habit} {aside} would {{0}} {judge} the {aspect} {word}"
        negation = draw.choice(_NEGATIONS)
    governs = f"{opener} {pattern.format(negation, '')} {closer}"
    spares = f"{opener} {pattern.format('', negation)} {closer}"
    return (spares, governs) if praising else (governs, spares)
