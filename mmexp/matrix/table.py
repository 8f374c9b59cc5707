"""What became of the combinations, as tables on the terminal."""

import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mmexp.matrix.trying import Outcome

KINDS = ("trained", "mended", "refused", "fault")


def print_outcomes(outcomes: Sequence[Outcome], console: Console | None = None) -> int:
    """Print counts by choice, why combinations were refused, and every fault; return 1 where there is one."""
    console = console or Console()
    console.print(counts(outcomes))
    console.print(refusals(outcomes))
    for outcome in (one for one in outcomes if one.kind == "fault"):
        console.print(f"\n[bold]fault[/]: mmexp train {escape(shlex.join(outcome.overrides))}", soft_wrap=True)
        console.print(escape(outcome.told.strip()), soft_wrap=True)
    kinds: Counter[str] = Counter(outcome.kind for outcome in outcomes)
    console.print(f"{len(outcomes)} combinations: " + ", ".join(f"{kinds[k]} {k}" for k in KINDS))
    return int(kinds["fault"] > 0)


def counts(outcomes: Sequence[Outcome]) -> Table:
    """Return how often each choice trained, at once or mended, and was refused, and how often the loss fell where it trained."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        for group, choice in outcome.chosen.items():
            found[f"{group}={choice}"].update([outcome.kind, *(["fell"] if outcome.fell else [])])
    table = Table(
        "choice", "trained", "loss fell", "mended", "refused", "fault", title="every pair of choices, together"
    )
    for name, count in found.items():
        table.add_row(name, *(str(count[kind]) for kind in ("trained", "fell", "mended", "refused", "fault")))
    return table


def refusals(outcomes: Sequence[Outcome]) -> Table:
    """Return the reasons that were given, the most frequent first; what names differ in counts as one."""
    reasons = defaultdict(list)
    for outcome in outcomes:
        if outcome.kind in ("refused", "mended"):
            reasons[re.sub(r"'[^']*'|\S+=\S+", "*", outcome.told)].append(outcome.told)
    table = Table("times", "refused, for example", title="refusals")
    for told in sorted(reasons.values(), key=len, reverse=True):
        table.add_row(str(len(told)), escape(told[0]))
    return table
