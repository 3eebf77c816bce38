"""`python -m lth_flax`: the commands, each with the line that its module begins with."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

from lth_flax.streams import fail, unfailing

PACKAGE = Path(__file__).parent
PARTS = {
    "experiments": "Experiments, a question each, and tickets put to use",
    "analysis": "Answers made again from what was recorded",
    "benchmarks": "Measurements of speed",
}


def commands(part: str) -> Iterator[tuple[str, str]]:
    """(name, what it does) of every module of a part that answers `--help`.

    Read off the sources: nothing is imported, so that this is fast and needs no extra.
    """
    for path in sorted((PACKAGE / part).glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            alias.name
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        runs = any(isinstance(node, ast.If) and "__main__" in ast.dump(node) for node in tree.body)
        if runs and imported & {"cli", "argparse"}:
            yield path.stem, (ast.get_docstring(tree) or "").split("\n")[0]


def listing() -> str:
    """What `python -m lth_flax` prints."""
    lines = ["Each command lists its flags with --help."]
    for part, title in PARTS.items():
        found = list(commands(part))
        width = max(len(name) for name, _ in found)
        lines += ["", f"{title}: python -m lth_flax.{part}.NAME"]
        lines += [f"  {name:{width}}  {words}" for name, words in found]
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    asked = [name for name in arguments if name not in ("-h", "--help")]
    if asked:
        modules = {name: f"lth_flax.{part}.{name}" for part in PARTS for name, _ in commands(part)}
        module = modules.get(asked[0].rpartition(".")[2])
        remedy = f"run python -m {module}" if module else "without, it lists the commands"
        fail(f"python -m lth_flax takes no arguments, found {asked[0]!r}: {remedy}")
    print(listing())


if __name__ == "__main__":
    with unfailing():
        main(sys.argv[1:])
