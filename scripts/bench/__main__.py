"""Speed against peers, each table by one command.

    python scripts/bench [NAME ...] [--rounds 3] [--short] [--to docs/performance]

NAME is a file of this folder; without one all are run. Writes NAME.json and NAME.png below --to, and prints the table;
scripts/performance_page.py puts those of docs/performance/ into docs/performance.md. Run it on a quiet machine. --short does
little work in one round, and ends with status 1 where less than a third of a goal is reached. What computes in bfloat16 is left
out where the processor would emulate it.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from contest import GROSS, run, table

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("*.py") if path.stem not in ("__main__", "contest"))


def main() -> int:
    """Run the contests; return 1 where a short form falls far behind its goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--to", type=Path, default=Path("outputs/bench"))
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    missed = [line for name in asked.names or NAMES for line in measure(name, asked)]
    return int(asked.short and bool(missed))


def measure(name: str, asked: argparse.Namespace) -> list[str]:
    """Run one contest, write and print what it measured, and return the goals that it missed."""
    with tempfile.TemporaryDirectory() as folder:
        whole = importlib.import_module(name).contest(Path(folder), short=asked.short)
        contest = whole.without_emulation()
        for way in whole.ways.keys() - contest.ways.keys():
            print(f"left out: {way}: this processor has no native bfloat16")
        outcome = run(contest, 1 if asked.short else asked.rounds)
    outcome.write(asked.to / f"{name}.json")
    print(f"\n{outcome.contest.title}\n\n{table(outcome.told())}")
    missed = outcome.missed(GROSS if asked.short else 1.0)
    print(*(f"missed: {line}" for line in missed), sep="\n")
    return missed


if __name__ == "__main__":
    sys.exit(main())
