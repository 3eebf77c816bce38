"""The first edition's verdicts on the paper's claims, kept with what was wrong with them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class First:
    """A claim as the first edition had it: its verdict, and what was wrong with that."""

    text: str
    verdict: str
    wrong: str


FIRST_EDITION = {
    "C1": First(
        "Tweets: every model craters after 90% pruning, most only after 95%",
        "does not hold",
        "It compared point estimates, with no interval, in accuracy, where the majority class "
        "hides the loss, and averaged depths and learning rates. Of the paper's own protocol five "
        "networks had learned anything.",
    ),
    "C2": First(
        "The tweet floor in the low 30s is a quirk",
        "artefact of predicting one class",
        "It counted rows, not networks: its three were one network at three levels.",
    ),
    "C3": First(
        "Six layers score best, two worst; depth does not make a model harder to break",
        "does not hold",
        "The wrong way round: the paper says that depth does not add resistance, and a negative "
        "effect, which it took as refuting, supports that. Learning rates were averaged.",
    ),
    "C4": First(
        "IMDB models break between 60% and 70% or later, and never fall below 50%",
        "does not hold",
        'It read "cratering" as a loss of one point, compared point estimates of three seeds, and '
        "let any network half a point below 50% refute the rest.",
    ),
    "C5": First(
        "Holding past 50% pruned shows that tickets exist",
        "does not hold",
        "It could not hold whatever the data, and took a gap that was not significantly above zero "
        "as evidence of none, from one level and three seeds.",
    ),
    "C6": First(
        "Ticket and random initialization are alike to 45%; then the random one falls at once and "
        "the ticket holds past 80%",
        "artefact of the paper's protocol",
        'Changed after its data had been seen: until then the rule gave "does not hold", and the '
        "clause on the paper's protocol was added when that had been recorded, on networks that "
        "had hardly learned (59.4%, 3 seeds). Breakdowns never reached entered means as if they "
        "had been, four claims had one verdict, and all hung on one learning rate.",
    ),
    "C7": First(
        '"Iteratively for pruning rates from 10% to 95%": does the schedule matter?',
        "holds",
        "No claim but a question, so nothing can hold; a mean over the levels that happened to be "
        "run, with an interval that took seeds that split one corpus again as independent. It is "
        "Q1 now.",
    ),
    "C8": First(
        "A short retraining after pruning helps below about 40% and above 60%, and often hurts in "
        "between",
        "does not hold",
        "Three claims with one verdict, three seeds, one level in each of two bands, and learning "
        "rates averaged; below 40% the dense network's own gain was not taken off.",
    ),
    "C9": First(
        "The model with the lowest learning rate gains 5 to 10 points",
        "artefact of unfinished training",
        "Changed after its data had been seen: on the same records the rule before gave "
        '"holds". It averaged levels, compared point estimates of three seeds, and had no upper '
        "end.",
    ),
    "C10": First(
        "50,000 reviews, tags stripped, up to about 2,500 tokens",
        "artefact of cutting reviews to 32 tokens",
        "A description of the data, which cannot be an artefact. It compared the first 32 tokens "
        "with the last 400 of one network: two differences at once.",
    ),
}


def first_edition(number: str) -> First | None:
    """What the first edition said of the claim that a sub-claim is a part of."""
    return FIRST_EDITION.get({"Q1": "C7"}.get(number, number.rstrip("abcd")))
