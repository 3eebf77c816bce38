"""From records to answers on disk: summary, figures and page.

python -m lth_flax.analysis.report DIR...            rebuild from records alone
python -m lth_flax.analysis.report --out=NEW DIR...  join blocks of seeds, or configurations, first:
                                                     NEW then holds what one run would
"""

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from matplotlib.figure import Figure

from lth_flax.analysis.blocks import Block, join_blocks, read_block, read_provenance, write_block
from lth_flax.analysis.comparison_page import comparison_html, comparison_text
from lth_flax.analysis.configurations import comparable, compare_configurations
from lth_flax.analysis.draw_configurations import figures_of_comparison
from lth_flax.analysis.figures import figure_bytes, figures_of
from lth_flax.analysis.merge import split_groups
from lth_flax.analysis.page import report_html, verdict_sentence
from lth_flax.analysis.paper import Curve, paper_curves
from lth_flax.analysis.summary import summarize, summary_text
from lth_flax.analysis.terminal import diverged_sentence, terminal_table
from lth_flax.errors import UserError
from lth_flax.files import make_directory, write_bytes_atomic, write_text_atomic
from lth_flax.flagfile import value_of
from lth_flax.records import Record

REPORT = "report"
COMPARED = ("prune_after_training", "post_prune_training")
"""Experiments that are answered by a comparison, also of one configuration."""


def write_report(
    directory: Path,
    records: Sequence[Record],
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    margin: float,
    alpha: float,
    paper: Mapping[str, Curve] | None = None,
) -> tuple[dict[str, Any], str]:
    """Writes summary.json, report/*.png, *.svg and report.html.

    Records of more than one setting (after `retrain_ticket`, say) get a set of
    files each: summary_2.json, report_2.html and so on. A grid of configurations
    is compared in comparison.json and report/comparison.html, and where tickets
    are not in it, its single configurations get a summary but no page.

    Args:
      margin: of equivalence, in points.
      paper: curves of the paper, to be drawn beside ours.

    Returns:
      the first summary, and the tables and verdicts for a terminal.
    """
    if not records:
        raise UserError(
            f"records.csv of {directory} has no rows, so there is nothing to report: remove the "
            "directory and run again"
        )
    summaries = [summarize(g, margin=margin, alpha=alpha) for g in split_groups(records)]
    folder = directory / REPORT
    try:
        make_directory(folder)
    except OSError as error:
        raise UserError(
            f"cannot make {folder} ({error.strerror}): give another directory for the report"
        ) from None
    answers, text = [], ""
    whole = comparable(records) or records[0].experiment in COMPARED
    if whole:
        comparison = compare_configurations(records, alpha=alpha)
        text = _write_comparison(directory, comparison, settings, provenance, paper)
    for number, summary in enumerate(summaries, start=1):
        suffix = f"_{number}" if number > 1 else ""
        write_text_atomic(directory / f"summary{suffix}.json", summary_text(summary))
        if whole and not summary["headline"]:
            continue
        images = _write_figures(folder, figures_of(summary, paper), suffix)
        page = report_html(summary, images, dict(settings), dict(provenance))
        write_text_atomic(folder / f"report{suffix}.html", page)
        title = f"{summary['dataset']}, {summary['mask_from']}:\n" if len(summaries) > 1 else ""
        diverged = diverged_sentence(summary)
        parts = [
            terminal_table(summary),
            verdict_sentence(summary),
            *([diverged] if diverged else []),
        ]
        answers.append(title + "\n\n".join(parts))
    return summaries[0], text or "\n\n".join(answers)


def page_of(directory: Path) -> Path:
    """The page to open first."""
    folder = directory / REPORT
    comparison = folder / "comparison.html"
    return comparison if comparison.exists() else folder / "report.html"


def _write_comparison(
    directory: Path,
    comparison: Mapping[str, Any],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    paper: Mapping[str, Curve] | None,
) -> str:
    """Writes comparison.json, its figures and its page; returns the terminal's answer."""
    folder = directory / REPORT
    images = _write_figures(folder, figures_of_comparison(comparison, paper))
    page = comparison_html(comparison, images, settings, provenance)
    write_text_atomic(folder / "comparison.html", page)
    write_text_atomic(directory / "comparison.json", summary_text(dict(comparison)))
    return comparison_text(comparison)


def _write_figures(
    folder: Path, figures: Mapping[str, Figure], suffix: str = ""
) -> dict[str, bytes]:
    images = {}
    for name, figure in figures.items():
        images[name] = figure_bytes(figure, "png")
        write_bytes_atomic(folder / f"{name}{suffix}.png", images[name])
        write_bytes_atomic(folder / f"{name}{suffix}.svg", figure_bytes(figure, "svg"))
    return images


def _margin(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:  # also False for nan
        raise argparse.ArgumentTypeError(f"{text} is no margin: expected points, from 0")
    return value


def _alpha(text: str) -> float:
    value = float(text)
    if not 0 < value <= 0.5:
        raise argparse.ArgumentTypeError(f"{text} is no level: expected above 0 and at most 0.5")
    return value


class _Parser(argparse.ArgumentParser):
    """One line and exit status 2, like every command here."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; --help shows what is expected", file=sys.stderr)
        raise SystemExit(2)


def write_merged(
    directory: Path,
    block: Block,
    *,
    margin: float,
    alpha: float,
    paper: Mapping[str, Curve] | None = None,
    flags: bool = True,
) -> str:
    """Writes joined blocks with their report; returns the terminal's answer.

    With `flags` off, flags.txt is left as it is.
    """
    try:
        make_directory(directory)
    except OSError as error:
        raise UserError(
            f"cannot make {directory} ({error.strerror}): give another directory"
        ) from None
    write_block(directory, block, flags=flags)
    return _report(directory, block, margin=margin, alpha=alpha, paper=paper)


def _report(
    directory: Path,
    block: Block,
    *,
    margin: float,
    alpha: float,
    paper: Mapping[str, Curve] | None,
) -> str:
    provenance = dict(block.provenance or {})
    if isinstance(provenance.get("blocks"), dict):  # the page names them, the file has it all
        provenance["blocks"] = ", ".join(provenance["blocks"])
    _, answer = write_report(
        directory,
        block.records,
        settings={name: value_of(line) for name, line in (block.flags or {}).items()},
        provenance=provenance,
        margin=margin,
        alpha=alpha,
        paper=paper,
    )
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = _Parser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("directories", nargs="+", metavar="DIR", help="work directories")
    parser.add_argument("--out", help="a new directory, for what is merged; or for the report")
    parser.add_argument(
        "--margin", type=_margin, default=0.5, help="equivalence margin in points, from 0"
    )
    parser.add_argument(
        "--paper", type=int, metavar="N", help="draw the curves of the paper's figure N too"
    )
    parser.add_argument(
        "--alpha", type=_alpha, default=0.05, help="level of the tests, above 0 and at most 0.5"
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    try:
        directories = [Path(name) for name in options.directories]
        merged = len(directories) > 1
        if merged and not options.out:
            raise UserError(
                f"{len(directories)} directories are merged into a new one: say which, as "
                f"python -m lth_flax.analysis.report --out=NEW {shlex.join(given)}"
            )
        out = Path(options.out) if options.out else directories[0]
        if merged:
            _check_new(out)
        blocks = [read_block(directory) for directory in directories]
        block = join_blocks(blocks) if merged else blocks[0]
        if not block.records:  # before anything is written
            raise UserError(f"{', '.join(options.directories)}: no rows, so nothing to report")
        paper = None if options.paper is None else paper_curves(options.paper)
        write = write_merged if merged else _report
        answer = write(out, block, margin=options.margin, alpha=options.alpha, paper=paper)
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for one in blocks if merged else ():
        if not (one.provenance or {}).get("finished", True):
            print(f"note: {one.name} is not finished; what it has so far is in", file=sys.stderr)
    print(answer)
    print(f"\nReport: {page_of(out)}")
    return 0


def _check_new(out: Path) -> None:
    """Merging overwrites nothing but what merging made: no run's directory, which has a lock.

    Raises:
      UserError: there is something else.
    """
    try:
        empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    except OSError as error:
        raise UserError(f"--out={out} cannot be read ({error.strerror})") from None
    if not empty and ("blocks" not in (read_provenance(out) or {}) or (out / "lock").exists()):
        raise UserError(
            f"--out={out} is there already, and was not made by merging: give a new directory"
        )


if __name__ == "__main__":
    sys.exit(main())
