"""Errors that are the user's to mend, and how near a wrong name is to a right one. Standard library only."""

from collections.abc import Iterable
from difflib import get_close_matches


class RequestError(Exception):
    """The request was wrong: told in a few plain lines on standard error, exit status 2, no traceback."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Return ` Did you mean 'x'?` for the name nearest to `name`, else what there is to choose from."""
    known = sorted(map(str, names))
    found = get_close_matches(str(name), known, n=1, cutoff=0.5)
    if found:
        return f" Did you mean '{found[0]}'?"
    return f" There is: {', '.join(known)}." if known else ""
