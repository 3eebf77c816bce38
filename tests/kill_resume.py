"""Kills a small `winning_ticket` with SIGKILL again and again, continues it, and compares.

  python tests/kill_resume.py --kills=200 --seed=1

Every output must equal, byte for byte, that of a run that was never interrupted;
of tickets, the arrays and what is said of them. A run that ends before it is
killed is compared, and another one begun, until all kills are spent. Two such
chains of runs go side by side.

Every other kill comes at a random time, the rest while something is being
written: a checkpoint, a ticket, the records or a figure.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands

ROOT = Path(__file__).resolve().parents[1]
RUN = [
    "lth_flax.experiments.winning_ticket", "--work_dir=run",
    "--synthetic_size=300", "--hidden_size=6", "--embedding_size=6", "--num_layers=2",
    "--num_seeds=2", "--levels=0.3,0.6", "--arms=ticket,reinit", "--epochs=3", "--batch_size=32",
    "--max_shapes=2", "--checkpoint_minutes=0", "--noprogress", "--cache_dir=../cache",
]  # fmt: skip
PATIENCE = 300.0
"""Seconds after which a run that was not killed counts as hanging."""
CHAINS = 2
"""Runs that are killed and continued side by side: most of a start needs one core."""


def start(place: Path) -> subprocess.Popen[str]:
    """The run in `place`, begun or continued."""
    place.mkdir(exist_ok=True)
    process: subprocess.Popen[str] = commands.start(*RUN, cwd=place)
    return process


def wait_for_training(process: subprocess.Popen[str]) -> None:
    """Moments count from here, so that there is something to lose."""
    assert process.stdout is not None
    for line in process.stdout:
        if "replicates of" in line:
            return


def finish(process: subprocess.Popen[str]) -> str:
    """Lets it end; what it said to stderr."""
    _, stderr = process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise AssertionError(f"exit status {process.returncode}: {stderr}")
    return stderr


def being_written(place: Path) -> str | None:
    """What is half written right now, if anything."""
    for parent, folders, files in os.walk(place / "run"):
        for name in folders:
            if "orbax-checkpoint-tmp" in name:
                return "ticket" if "tickets" in Path(parent).parts else "checkpoint"
        for name in files:
            if name.endswith(".tmp"):
                return name.split(".")[1]
    return None


def kill(
    process: subprocess.Popen[str],
    place: Path,
    rng: random.Random,
    longest: float,
    *,
    during_save: bool,
) -> str:
    """Kills at a moment of its own choice; says what it hit ("ended": nothing, it was over)."""
    wait_for_training(process)
    until = time.monotonic() + rng.uniform(0, longest)
    while time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    hit = "a random moment"
    if during_save:
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            found = being_written(place)
            if found:
                hit = f"writing {found}"
                break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return hit if process.returncode == -signal.SIGKILL else "ended"


def outputs(place: Path) -> dict[str, str]:
    """A digest of all that must be the same, by name."""
    from lth_flax.tickets import load_ticket

    run = place / "run"
    names = ["flags.txt", "records.csv", "curves.csv", "predictions.npz", "summary.json"]
    files = [run / name for name in names]
    files += sorted(p for p in (run / "report").rglob("*") if p.suffix in (".png", ".svg"))
    found = {str(p.relative_to(run)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    for directory in sorted((run / "tickets").glob("*/*")):
        ticket = load_ticket(directory)
        found[str(directory.relative_to(run))] = json.dumps(
            [ticket.digest, dict(ticket.metadata)], sort_keys=True
        )
    # All that is there and was not compared: the page with its dates, times of the run, the lock.
    rest = {p.name for p in run.iterdir()} - set(names)
    assert rest == {"report", "tickets", "provenance.json", "lock"}, rest
    return found


def check(place: Path, expected: dict[str, str]) -> None:
    """Raises AssertionError where an output differs."""
    found = outputs(place)
    differing = [n for n in sorted(found.keys() | expected) if found.get(n) != expected.get(n)]
    assert not differing, f"{place}: {', '.join(differing)} differ"


def kill_and_resume(directory: Path, *, kills: int, seed: str) -> Counter[str]:
    """Kills so often, compares all that ended; how often each kind of moment was hit."""
    finish(start(directory / "whole"))  # compiles, so that the next tells how long a run takes
    again = start(directory / "again")
    wait_for_training(again)
    begun = time.monotonic()
    finish(again)
    longest = time.monotonic() - begun
    expected = outputs(directory / "whole")
    check(directory / "again", expected)

    def chain(number: int) -> Counter[str]:
        rng = random.Random(f"{seed} {number}")
        mine = kills // CHAINS + (number < kills % CHAINS)
        hits: Counter[str] = Counter()
        run = 0
        while hits.total() < mine:
            place = directory / f"killed_{number}_{run}"
            # The first while something is written: a few kills have some of these too.
            during_save = hits.total() % 2 == 0
            hit = kill(start(place), place, rng, longest, during_save=during_save)
            if hit == "ended":
                check(place, expected)
                run += 1
            else:
                hits[hit] += 1
                print(f"chain {number}, kill {hits.total()} of run {run}: {hit}", flush=True)
        place = directory / f"killed_{number}_{run}"
        finish(start(place))
        check(place, expected)
        return hits

    with ThreadPoolExecutor(CHAINS) as pool:
        return sum(pool.map(chain, range(CHAINS)), Counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", default="0")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as directory:
        hits = kill_and_resume(Path(directory), kills=arguments.kills, seed=arguments.seed)
    print(f"{sum(hits.values())} kills, all outputs equal: {dict(hits.most_common())}")


if __name__ == "__main__":
    main()
