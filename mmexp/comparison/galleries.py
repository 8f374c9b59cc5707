"""What the runs retrieved, read from the `gallery.json` that each leaves, for one page."""

import json
from collections.abc import Sequence
from typing import Any

from mmexp.comparison.types import Run

_BYTES = 4_000_000  # of all pictures of a page
_QUERIES = (8, 4, 2, 1)  # of a block: as many as the page has room for


def galleries_of(runs: Sequence[Run]) -> dict[str, Any]:
    """Return `galleries`, by run, from a block's title to its queries, and `pictures`, each once for all runs.

    Runs without a `gallery.json` are left out. Of many runs fewer queries are kept, the same of each.
    """
    read = {run.name: gallery for run in runs if (gallery := _read(run))}
    pictures = {key: uri for gallery in read.values() for key, uri in gallery["pictures"].items()}
    for count in _QUERIES:
        kept = {name: _first(gallery, count) for name, gallery in read.items()}
        used = {key for blocks in kept.values() for queries in blocks.values() for key in _keys(queries)}
        if sum(len(pictures[key]) for key in used) <= _BYTES:
            break
    return {"galleries": kept, "pictures": {key: pictures[key] for key in sorted(used)}}


def _read(run: Run) -> dict[str, Any] | None:
    path = run.directory / "gallery.json" if run.directory else None
    return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else None


def _first(gallery: dict[str, Any], count: int) -> dict[str, list[dict[str, Any]]]:
    return {title: queries[:count] for title, queries in gallery["retrieval"].items()}


def _keys(queries: list[dict[str, Any]]) -> set[str]:
    shown = [one for query in queries for one in (query, *query["retrieved"])]
    return {one["picture"] for one in shown if one["picture"]}
