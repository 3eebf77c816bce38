"""Classifies texts with a saved ticket: one line for each, its label and probabilities.

  python -m lth_flax.experiments.predict --ticket=runs/quickstart/tickets/seed_0/level_0.9 \\
      "a wonderful film" "nothing but noise"

Texts are arguments, or the lines of standard input, or a column of a table (--data_file with
--text_column). They are cleaned, cut and looked up as in the ticket's training; how many of their
words it does not know is said on standard error.
"""

import csv
import sys
from collections import Counter
from collections.abc import Sequence

from lth_flax import cli
from lth_flax.config import PredictConfig
from lth_flax.data.tables import read_texts
from lth_flax.errors import UserError
from lth_flax.runs.devices import configure_jax
from lth_flax.streams import lost_output
from lth_flax.tickets import Ticket, load_ticket
from lth_flax.tickets.prediction import Prediction

MOST_NAMED = 5
"""Unknown words that are named, the most frequent first."""


def main(config: PredictConfig) -> None:
    if not config.ticket:
        raise UserError("--ticket is missing: give the directory of a saved ticket")
    texts = config.texts
    if config.data_file and texts:
        raise UserError("texts are given and --data_file too: expected one of them")
    if config.text_column and not config.data_file:
        raise UserError("--text_column names a column of --data_file: give that, or leave it out")
    configure_jax(config, devices=1)
    ticket = load_ticket(config.ticket)
    if config.data_file:
        texts = _of_table(config, ticket)
    elif not texts:
        texts = _of_standard_input()
    predictions = ticket.predict(texts)
    _print(predictions, config.output)
    if reason := lost_output():
        raise UserError(f"the answers cannot be written ({reason}): make room, or write elsewhere")
    print(unknown_words(predictions), file=sys.stderr)


def _of_table(config: PredictConfig, ticket: Ticket) -> tuple[str, ...]:
    column = config.text_column or (ticket.metadata.get("source") or {}).get("text_column")
    if column is None and ticket.metadata.get("dataset") == "financial_tweets":
        column = "Text"
    if column is None:
        raise UserError(
            f"--text_column is missing: give the column of {config.data_file} with the texts"
        )
    return read_texts(
        str(config.data_file), str(column), separator=config.separator, encoding=config.encoding
    )


def _of_standard_input() -> tuple[str, ...]:
    try:
        texts = tuple(sys.stdin.buffer.read().decode("utf-8").splitlines())
    except UnicodeDecodeError:
        raise UserError("standard input is not UTF-8: give texts as UTF-8, one per line") from None
    if not texts:
        raise UserError(
            "there is no text: give some as arguments, on standard input a line each, or in a "
            "--data_file"
        )
    return texts


def _print(predictions: Sequence[Prediction], output: str) -> None:
    names = list(predictions[0].probabilities)
    if output == "csv":
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["label", *names])
        table.writerows(
            [one.label, *(f"{one.probabilities[name]:.6f}" for name in names)]
            for one in predictions
        )
        return
    width = max(len(name) for name in names)
    for one in predictions:
        shares = "  ".join(f"{name} {share:.4f}" for name, share in one.probabilities.items())
        print(f"{one.label.ljust(width)}  {shares}")


def unknown_words(predictions: Sequence[Prediction]) -> str:
    """How many words the ticket has no vector of its own for, and which are the most frequent."""
    total = sum(one.words for one in predictions)
    counts = Counter(word for one in predictions for word in one.unknown)
    number = sum(counts.values())
    line = f"{number:,} of {total:,} words are unknown to the ticket"
    if not number:
        return line
    named = ", ".join(word for word, _ in counts.most_common(MOST_NAMED))
    return f"{line}: {named}{', ...' if len(counts) > MOST_NAMED else ''}"


if __name__ == "__main__":
    cli.run(main, PredictConfig, "predict", arguments="texts")
