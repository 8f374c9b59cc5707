"""Pictures small enough for a page, and `gallery.json`: what a run retrieved, as data for pages about several runs."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from mmexp.runs.record import write_atomically

if TYPE_CHECKING:
    from mmexp.runs.report import Query, Retrieved

_THUMBNAIL = 64  # pixels a side


def inline(picture: Image.Image, side: int = 96) -> str:
    """Return `picture` as a data URI of at most `side` pixels a side."""
    small = picture.convert("RGBA" if picture.mode in ("RGBA", "LA", "P") else "RGB")
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "WEBP", quality=85 if side > _THUMBNAIL else 75)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"


def write_gallery(directory: Path, retrieval: Mapping[str, Sequence["Query"]]) -> None:
    """Write `directory/gallery.json`; nothing where the run retrieved nothing.

    `retrieval` maps each block's title to its queries (`text`, `picture`, `retrieved`), an answer has `score` and `right`
    besides. A picture is a key of `pictures`, whose values are data URIs; equal pictures have equal keys in all runs.
    """
    if not retrieval:
        return
    pictures: dict[str, str] = {}

    def shown(one: "Query | Retrieved") -> dict[str, Any]:
        if one.picture is None:
            return {"text": one.text, "picture": None}
        uri = inline(one.picture, _THUMBNAIL)
        key = hashlib.sha256(uri.encode()).hexdigest()[:12]
        pictures[key] = uri
        return {"text": one.text, "picture": key}

    def answered(query: "Query") -> dict[str, Any]:
        answers = [{**shown(a), "score": round(a.score, 4), "right": a.right} for a in query.retrieved]
        return {**shown(query), "retrieved": answers}

    blocks = {title: [answered(query) for query in queries] for title, queries in retrieval.items()}
    write_atomically(directory / "gallery.json", json.dumps({"retrieval": blocks, "pictures": pictures}))
