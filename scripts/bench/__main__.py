"""Speed against peers, each table by one command.

    python scripts/bench NAME [--rounds 3] [--short] [--to docs/performance]

NAME is a file of this folder. Writes NAME.json and NAME.png below --to, and prints the table; scripts/performance_page.py
puts those of docs/performance/ into docs/performance.md. Run it on a quiet machine. --short does little work in one round,
and ends with status 1 where less than a third of a goal is reached.
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
    """Run one contest; return 1 where a short form falls far behind its goals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--to", type=Path, default=Path("outputs/bench"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        contest = importlib.import_module(asked.name).contest(Path(folder), short=asked.short)
        outcome = run(contest, 1 if asked.short else asked.rounds)
    outcome.write(asked.to / f"{asked.name}.json")
    print(f"\n{outcome.contest.title}\n\n{table(outcome.told())}")
    missed = outcome.missed(GROSS if asked.short else 1.0)
    print(*(f"missed: {line}" for line in missed), sep="\n")
    return int(asked.short and bool(missed))


if __name__ == "__main__":
    sys.exit(main())
