"""Put the tables of docs/performance/NAME.json into docs/performance.md, each between its marks; --check only compares.

python scripts/bench NAME --to docs/performance
python scripts/performance_page.py
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
sys.path.insert(0, str(Path(__file__).parent / "bench"))
from contest import table  # noqa: E402

PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def block(name: str, told: Mapping[str, Any]) -> str:
    """Return what the page says of one contest: the command, the table, the goals, where and when."""
    versions = ", ".join(f"{library} {version}" for library, version in told["versions"].items())
    command = f"```bash\npython scripts/bench {name} --to docs/performance\n```"
    rounds = len(next(iter(told["rounds"].values())))
    where = f"Medians of {rounds} rounds, {told['date']}, {told['machine']}; {versions}."
    return f"{command}\n\n{table(told)}\n\n![{told['title']}](performance/{name}.png)\n\n{where}\n"


def page(text: str, folder: Path) -> str:
    """Return the page with the tables as they were last measured."""

    def measured(place: re.Match[str]) -> str:
        return f"{place[1]}{block(place[2], json.loads((folder / f'{place[2]}.json').read_text()))}{place[3]}"

    return PLACE.sub(measured, text)


if __name__ == "__main__":
    file = DOCS / "performance.md"
    before = file.read_text()
    after = page(before, DOCS / "performance")
    if "--check" in sys.argv and before != after:
        sys.exit("docs/performance.md is not what was measured: run python scripts/performance_page.py")
    file.write_text(after)
