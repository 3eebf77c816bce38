"""From records to answers on disk: summary, figures and page.

python -m lth_flax.analysis.report DIR...            rebuild from records alone
python -m lth_flax.analysis.report --out=NEW DIR...  join blocks of seeds, or configurations, first:
                                                     NEW then holds what one run would
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from lth_flax.analysis.blocks import Block, join_blocks, read_block, read_provenance, write_block
from lth_flax.analysis.figures import figures_of, write_figure
from lth_flax.analysis.page import report_html
from lth_flax.analysis.paper import Curve, paper_curves
from lth_flax.analysis.result import Options, summary_text
from lth_flax.analysis.summary import summarize
from lth_flax.analysis.terminal import terminal_text
from lth_flax.config import Config, settings_of
from lth_flax.errors import UserError
from lth_flax.files import make_directory, write_text_atomic
from lth_flax.flagfile import value_of
from lth_flax.identity import digest, is_identity
from lth_flax.settings import Setting, home_expanded
from lth_flax.streams import unfailing

REPORT = "report"


def write_report(
    directory: Path,
    block: Block,
    options: Options,
    *,
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    paper: Mapping[str, Curve] | None = None,
    draw: bool = True,
) -> tuple[dict[str, Any], str]:
    """Writes summary.json, report/report.html and its figures as report/*.png and *.svg.

    Args:
      settings, provenance: for the page, where they are not those of the block.
      paper: curves of the paper, to be drawn beside ours.
      draw: whether figures and page are written.

    Returns:
      the summary, and the tables and verdicts for a terminal.
    """
    if not block.records:
        raise UserError(
            f"records.csv of {directory} has no rows, so there is nothing to report: remove the "
            "directory and run again"
        )
    if settings is None:
        settings = {name: value_of(line) for name, line in (block.flags or {}).items()}
    # Of several methods, the first that was named is compared with each other one.
    treatment = str(settings.get("methods", options.treatment)).partition(",")[0]
    options = replace(options, treatment=treatment)
    # The file has it all, a page what stands for it.
    shown = dict((provenance is None and block.provenance) or provenance or {})
    if is_identity(shown.get("identity")):
        shown["identity"] = digest(shown["identity"])
    if isinstance(shown.get("blocks"), dict):
        shown["blocks"] = ", ".join(shown["blocks"])
    summary = summary_of(block, options)
    if draw:
        _make(directory / REPORT)
    write_text_atomic(directory / "summary.json", summary_text(summary))
    if draw:
        images = _write_figures(directory / REPORT, summary, paper)
        page = report_html(summary, images, settings, shown, Config().texts())
        write_text_atomic(page_of(directory), page)
    return summary, terminal_text(summary)


def _make(folder: Path) -> None:
    try:
        make_directory(folder)
    except OSError as error:
        raise UserError(
            f"cannot make {folder} ({error.strerror}): give another directory for the report"
        ) from None


def _write_figures(
    folder: Path, summary: Mapping[str, Any], paper: Mapping[str, Curve] | None
) -> dict[str, bytes]:
    """Writes every figure as PNG and SVG; the PNGs by name."""
    figures = figures_of(summary, paper)
    return {name: write_figure(folder, name, figure) for name, figure in figures.items()}


def summary_of(block: Block, options: Options) -> dict[str, Any]:
    """What `summary.json` of a work directory holds."""
    return summarize(
        block.records,
        options=options,
        curves=block.curves or (),
        predictions=block.predictions,
    )


def write_merged(
    directory: Path,
    block: Block,
    options: Options,
    *,
    paper: Mapping[str, Curve] | None = None,
    flags: bool = True,
) -> str:
    """Writes joined blocks with their report; returns the terminal's answer.

    With `flags` off, flags.txt is left as it is.
    """
    _make(directory)
    write_block(directory, block, flags=flags)
    return write_report(directory, block, options, paper=paper)[1]


def recorded_options(directory: Path) -> Options:
    """The margin and alpha that a directory's summary was made with; else the defaults.

    Made again without flags, a summary is the same. Also reads those of the first edition.
    """
    try:
        found = json.loads((directory / "summary.json").read_text(encoding="utf-8"))["options"]
        return Options(margin_points=float(found["margin_points"]), alpha=float(found["alpha"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return Options()


def page_of(directory: Path) -> Path:
    """The page to open."""
    return directory / REPORT / "report.html"


def _reader(setting: Setting) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return setting.read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


class _Parser(argparse.ArgumentParser):
    """One line and exit status 2, like every command here."""

    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; --help shows what is expected", file=sys.stderr)
        raise SystemExit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns the exit status."""
    parser = _Parser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("directories", nargs="+", metavar="DIR", help="work directories")
    parser.add_argument(
        "--out", type=home_expanded, help="a new directory, for what is merged; or for the report"
    )
    parser.add_argument(
        "--paper", type=int, metavar="N", help="draw the curves of the paper's figure N too"
    )
    for name in ("margin", "alpha"):
        setting = settings_of()[name]
        text = f"{setting.help} Default: that of DIR's summary.json, or {setting.default}."
        parser.add_argument(f"--{name}", type=_reader(setting), help=text)
    given = sys.argv[1:] if arguments is None else list(arguments)
    chosen = parser.parse_args(given)
    try:
        directories = [Path(name) for name in chosen.directories]
        merged = len(directories) > 1
        if merged and not chosen.out:
            raise UserError(
                f"{len(directories)} directories are merged into a new one: say which, as "
                f"python -m lth_flax.analysis.report --out=NEW {shlex.join(given)}"
            )
        out = Path(chosen.out) if chosen.out else directories[0]
        if merged:
            _check_new(out)
        blocks = [read_block(directory) for directory in directories]
        block = join_blocks(blocks) if merged else blocks[0]
        if not block.records:  # before anything is written
            raise UserError(f"{', '.join(chosen.directories)}: no rows, so nothing to report")
        paper = None if chosen.paper is None else paper_curves(chosen.paper)
        options = recorded_options(directories[0])
        if chosen.margin is not None:
            options = replace(options, margin_points=chosen.margin)
        if chosen.alpha is not None:
            options = replace(options, alpha=chosen.alpha)
        if merged:
            answer = write_merged(out, block, options, paper=paper)
        else:
            answer = write_report(out, block, options, paper=paper)[1]
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
    with unfailing():
        sys.exit(main())
