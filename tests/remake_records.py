"""Makes every recorded answer under experiments/ again: for after a change of the rules.

  python tests/remake_records.py [DIRECTORY...]

Packs records and curves, which repeat themselves, so that a clone is small. Of every directory that
holds records: summaries, comparisons, tables of methods and transfers, figures and pages, with the
level and the margin of its flags.txt; then the page of claims, which follows from the summaries,
and in README and docs what stands between a mark such as `<!-- where: DIRECTORY -->` and
`<!-- end -->`: `where`, or with `, in short` before the `-->`; `answer` and `short_answer`, the
table and the verdict of a run with one configuration; `arms`, the scores of several; `methods`,
`transfer`, `inference`, `stability`.
`tests/test_recorded_answers.py` compares what is there with what this would write.
"""

import gzip
import json
import re
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENTS = ROOT / "experiments"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAPER = {"tweets_prune_after": 1, "paper_figure1": 1, "paper_figure3": 3, "imdb_post_prune": 4}
"""Where the paper's own curves are drawn beside ours, and of which of its figures."""


def recorded() -> list[Path]:
    """Every directory whose answers follow from its records."""
    return sorted(file.parent for file in EXPERIMENTS.glob("*/records.csv*"))


def pack(directory: Path) -> None:
    """Replaces the text of records and curves by itself in gzip, the same bytes every time."""
    for name in ("records.csv", "curves.csv"):
        if (file := directory / name).exists():
            packed = gzip.compress(file.read_bytes(), 9, mtime=0)
            file.with_name(f"{name}.gz").write_bytes(packed)
            file.unlink()


def options(directory: Path) -> Sequence[str]:
    """What the report of a directory is made with."""
    from lth_flax.analysis.blocks import read_flags
    from lth_flax.flagfile import value_of

    _, flags = read_flags(directory)
    chosen = [f"--{name}={value_of((flags or {})[name])}" for name in ("margin", "alpha")]
    if directory.name in PAPER:
        chosen.append(f"--paper={PAPER[directory.name]}")
    return chosen


def with_answers(text: str) -> str:
    """A page of docs with what its records say between its marks."""

    def answer(found: re.Match[str]) -> str:
        lines = ANSWERS[found[2]](EXPERIMENTS / found[3])
        if found[4]:
            lines = [line for line in lines if line.startswith("- ")]
        return "\n".join([found[1], *lines, found[5]])

    marks = r"(<!-- (\w+): (\w+)(, in short)? -->)\n.*?(<!-- end -->)"
    return re.sub(marks, answer, text, flags=re.DOTALL)


def summary_of(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def where(directory: Path) -> list[str]:
    from lth_flax.analysis.where import where_lines

    return where_lines(summary_of(directory))


def answer(directory: Path) -> list[str]:
    from lth_flax.analysis.terminal import sentences, terminal_table

    summary = summary_of(directory)
    table = terminal_table(summary).replace("\n\n", "\n")
    return ["```", *table.split("\n"), "```", "", f"*{sentences(summary)[0]}*"]


def short_answer(directory: Path) -> list[str]:
    """The table without its caption, and in which levels the ticket is better."""
    from lth_flax.analysis.terminal import terminal_table

    summary = summary_of(directory)
    table, _, _ = terminal_table(summary).partition("\n\n")
    return ["```", *table.split("\n"), "", summary["headline"]["story"], "```"]


def arms(directory: Path) -> list[str]:
    """Test accuracy of every arm at every level: a table for each configuration."""
    from lth_flax.analysis.terminal import accuracy_rows

    summary, lines = summary_of(directory), []
    for one in summary["configurations"]:
        rows = [row[: len(one["arms"])] for row in accuracy_rows(summary, one)]
        header, *rest = [[one["name"], *row[1:]] if not n else row for n, row in enumerate(rows)]
        table = [header, ["---"] * len(header), *rest]
        lines += ["", *(f"| {' | '.join(row)} |" for row in table)]
    return lines[1:]


def methods(directory: Path) -> list[str]:
    from lth_flax.analysis.methods import table

    treatment = summary_of(directory)["options"]["treatment"]
    return ["```", *table(compared_methods(directory), treatment).split("\n"), "```"]


def inference(directory: Path) -> list[str]:
    """What tickets of whole units save, by level: medians over the seeds of `inference.json`."""
    levels = json.loads((directory / "inference.json").read_text(encoding="utf-8"))["levels"]
    timed = ["classify, dense", "classify, compact", "classify, torch dense",
             "classify, torch compact", "train, dense", "train, compact"]  # fmt: skip
    table = [["units pruned", "parameters", *(f"{name} [ms]" for name in timed), "times faster"]]
    table.append(["---"] * len(table[0]))
    for level, ones in levels.items():
        of = [statistics.median(one["parameters"][place] for one in ones) for place in (0, 1)]
        ms = [statistics.median(one["milliseconds"][t]["median"] for one in ones) for t in timed]
        faster = [
            statistics.median(one["times_faster"][what]["median"] for one in ones)
            for what in ("classify", "train")
        ]
        table.append(
            [
                f"{float(level):.0%}", f"{of[1]:,.0f} of {of[0]:,.0f}", *(f"{m:.3g}" for m in ms),
                f"{faster[0]:.1f}, {faster[1]:.1f}",
            ]
        )  # fmt: skip
    return [f"| {' | '.join(row)} |" for row in table]


def transfer(directory: Path) -> list[str]:
    from lth_flax.analysis.transfer import table

    return ["```", *table(transfers(directory)).split("\n"), "```"]


def transfers(directory: Path) -> list:
    """The lines of transfer.csv."""
    from lth_flax.analysis.blocks import read_block
    from lth_flax.analysis.result import Options
    from lth_flax.analysis.transfer import lines_of

    block, asked = read_block(directory), Options(**summary_of(directory)["options"])
    return lines_of(block.records, asked, block.predictions)


def compared_methods(directory: Path) -> list:
    """The lines of methods.csv."""
    from lth_flax.analysis.blocks import read_block
    from lth_flax.analysis.methods import lines_of

    return lines_of(summary_of(directory), read_block(directory).records)


def stability(directory: Path) -> list[str]:
    from lth_flax.analysis.stability import read_lines, sentences

    lines = read_lines(directory / "connectivity.csv")
    points = dict.fromkeys(line[:2] for line in lines)
    return ["```", *(one for point in points for one in sentences(lines, *point)), "```"]


ANSWERS = {
    "where": where, "answer": answer, "short_answer": short_answer, "arms": arms,
    "methods": methods, "transfer": transfer, "inference": inference, "stability": stability,
}  # fmt: skip


TABLES = {"methods.csv": compared_methods, "transfer.csv": transfers}
"""Files that some runs have besides, and their lines."""


def leave_what_is_shown(directory: Path) -> None:
    """Takes away the figures that no page shows: the report has them all."""
    shown = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for kind in ("png", "svg"):
        for file in directory.glob(f"report/*.{kind}"):
            if f"{directory.name}/report/{file.name}" not in shown:
                file.unlink()


def main(names: Sequence[str]) -> int:
    sys.path.insert(0, str(ROOT))
    from lth_flax.analysis import claims, report
    from lth_flax.analysis.blocks import read_block
    from lth_flax.analysis.methods import write_methods
    from lth_flax.analysis.result import Options
    from lth_flax.analysis.transfer import write_transfer

    for directory in map(EXPERIMENTS.joinpath, names) if names else recorded():
        pack(directory)
        # Whatever the new rules no longer say must not stay.
        for old in [*directory.glob("summary*.json"), *directory.glob("comparison.json")]:
            old.unlink()
        print(f"\n# {directory.name}")
        if status := report.main([str(directory), *options(directory)]):
            return status
        if (directory / "methods.csv").exists():
            write_methods(directory, summary_of(directory), read_block(directory).records)
        if (directory / "transfer.csv").exists():
            asked = Options(**summary_of(directory)["options"])
            write_transfer(directory, asked)
        leave_what_is_shown(directory)
    for page in PAGES:
        page.write_text(with_answers(page.read_text(encoding="utf-8")), encoding="utf-8")
    return claims.main([str(EXPERIMENTS)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
