"""An index of the pictures in a folder: by a run's own vectors, in usearch's file."""

import json
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmexp.data.contents import state_of
from mmexp.data.kinds import PICTURES
from mmexp.errors import RequestError

ROWS = 64


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures of a folder and those below, in the order of their names. Raises RequestError for none."""
    if not folder.is_dir():
        raise RequestError(f"index={folder}: there is no such folder.")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
    if not found:
        raise RequestError(f"index={folder}: there is no picture ({', '.join(PICTURES)}).")
    return found


def made(folder: Path, weights: str, where: Path, embed: Callable[[Sequence[Path]], tuple[Tensor, list[bool]]]) -> Path:
    """Return where the index of a folder's pictures by these `weights` is; it is made anew where files have changed.

    `embed(paths)` returns their unit vectors (B, D), and which of them are pictures.
    """
    from usearch.index import Index

    files = pictures_in(folder)
    stamps = [(str(path.relative_to(folder)), state_of(path)) for path in files]
    key = sha256(repr((weights, str(folder.resolve()), stamps)).encode()).hexdigest()[:16]
    place = where / key
    if (place / "names.json").is_file():
        return place
    place.mkdir(parents=True, exist_ok=True)
    index: Any = None
    names: list[str] = []
    for start in range(0, len(files), ROWS):
        chunk = files[start : start + ROWS]
        vectors, right = embed(chunk)
        index = index or Index(ndim=vectors.shape[1], metric="cos")
        kept = [path for path, one in zip(chunk, right, strict=True) if one]
        rows = vectors.numpy()[np.array(right)]
        index.add(np.arange(len(names), len(names) + len(kept)), rows)
        names += [str(path.relative_to(folder)) for path in kept]
    index.save(str(place / "vectors.usearch"))
    (place / "names.json").write_text(json.dumps({"folder": str(folder.resolve()), "names": names}))
    return place


def files_of(place: Path) -> dict[str, str]:
    """Return the files of an index by their names."""
    told = json.loads((place / "names.json").read_text())
    return {name: str(Path(told["folder"]) / name) for name in told["names"]}
