"""How time and memory grow with rows, seeds, texts, width and levels: a process for each size.

  python -m lth_flax.benchmarks.growth --parts=rows --json=experiments/benchmarks/growth_rows.json
  python -m lth_flax.benchmarks.growth --json=experiments/benchmarks/growth.json

Each size is a `winning_ticket` on made-up texts with a work directory, from the command to
the report. Peak memory is the process's own, as the system counts it; `train_seconds` are
those of training and evaluation alone, without start, compilation and report. An exponent is
the slope of a line through the logarithms: 1 where twice the size takes twice as much.
Of texts it is also said how large they are when they are encoded: all of them, as numbers.
"""

import csv
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lth_flax.analysis.terminal import aligned
from lth_flax.benchmarks import timing

TINY: Mapping[str, Any] = {
    "synthetic_size": 200, "hidden_size": 2, "embedding_size": 4, "num_layers": 1, "epochs": 1,
    "max_shapes": 1, "num_seeds": 2, "levels": "0.5", "arms": "ticket,reinit",
}  # fmt: skip
WORDS_OF_A_TEXT, WORDS = 30, 50_000
_ROWS = {"reinit_draws": 3, "rows_per_program": 20}  # a seed has five rows

_TEXTS = {
    "dataset": "csv", "text_column": "text", "label_column": "label", "num_seeds": 1,
    "batch_size": 1024,
}  # fmt: skip

PARTS: Mapping[str, Mapping[int, Mapping[str, Any]]] = {
    "rows": {rows: {"num_seeds": rows // 5, **_ROWS} for rows in (100, 2000)},
    "seeds": {seeds: {"num_seeds": seeds} for seeds in (4, 8, 16, 32)},
    "texts": dict.fromkeys((10_000, 100_000, 1_000_000), _TEXTS),
    "hidden_size": {width: {"hidden_size": width} for width in (32, 128, 512, 1024)},
    "levels": {
        levels: {"levels": ",".join(f"{n / (levels + 1):.4f}" for n in range(1, levels + 1))}
        for levels in (2, 4, 8, 16)
    },
}
"""What grows: its size -> the settings that differ from `TINY`."""


def write_texts(path: Path, texts: int) -> None:
    """A CSV of texts of random words, some far more frequent; the first one decides."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for start in range(0, texts, 10_000):
            size = (min(10_000, texts - start), WORDS_OF_A_TEXT)
            words = (WORDS ** rng.random(size)).astype(int)  # as often as one over its rank
            writer.writerows(
                (" ".join(f"w{word}" for word in text), "even" if text[0] % 2 == 0 else "odd")
                for text in words.tolist()
            )


def measure(settings: Mapping[str, Any], size: int) -> dict[str, float]:
    """Seconds and peak memory of one command, in a process of its own."""
    with tempfile.TemporaryDirectory() as directory:
        flags = {**TINY, **settings, "work_dir": f"{directory}/run", "cache_dir": ""}
        if settings.get("dataset") == "csv":
            del flags["synthetic_size"]
            flags["data_file"] = f"{directory}/texts.csv"
            write_texts(Path(flags["data_file"]), size)
        run = timing.winning_ticket(flags)
    spent = run["provenance"]["seconds"]
    return {
        "seconds": run["seconds"],
        "train_seconds": spent["train"] + spent["evaluate"],
        "peak_bytes": run["peak_bytes"],
        **({"encoded_bytes": 4 * WORDS_OF_A_TEXT * size} if "data_file" in flags else {}),
    }


def exponent(values: Mapping[int, float]) -> float:
    """The power of the size that the values grow with, fitted by least squares."""
    sizes, measured = (np.log([*column]) for column in (values.keys(), values.values()))
    return float(np.polyfit(sizes, measured, 1)[0])


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="what grows")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"--parts={unknown[0]}: expected some of {','.join(PARTS)}")
    found = {}
    for part in parts:
        sizes = {size: measure(settings, size) for size, settings in PARTS[part].items()}
        by_name = {
            name: {size: values[name] for size, values in sizes.items()}
            for name in ("seconds", "train_seconds", "peak_bytes")
        }
        exponents = {name: exponent(values) for name, values in by_name.items()}
        found[part] = {"settings": {**TINY}, "sizes": sizes, "exponents": exponents}
        rows = [[part, "seconds", "of training", "peak MB"]]
        for size, one in sizes.items():
            cells = [one["seconds"], one["train_seconds"], one["peak_bytes"] / 1e6]
            rows.append([f"{size:,}", *(f"{cell:.1f}" for cell in cells)])
        rows.append(["exponent", *(f"{value:.2f}" for value in exponents.values())])
        print(aligned(rows) + "\n", flush=True)
    timing.write_result(arguments.json, {"machine": timing.describe_machine(), "parts": found})


if __name__ == "__main__":
    main()
