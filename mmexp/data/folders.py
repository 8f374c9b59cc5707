"""A folder of files as rows: a picture, sound or video each, with what has its name beside it; sub-folders are classes."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmexp.data.faults import Faults
from mmexp.data.kinds import FILES
from mmexp.data.texts import captions_in
from mmexp.errors import RequestError

# Sub-folders of these names are splits, and no classes.
_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_BESIDE = (".txt", ".json", ".csv", ".tsv", ".md")

Rows = list[tuple[str, dict[str, Any]]]


def rows_of_folder(folder: Path, faults: Faults, each_line: bool) -> Rows:
    """Return the rows of a folder, each with its place.

    Rows are the files of the first kind that is there: pictures, else sounds, else videos. Files of other kinds with the same
    name belong to the row, a .txt beside is its caption, and the first sub-folder on the way is its label. Hidden files and
    folders are left out; what else is left out is counted in the notes of `faults`.

    Raises:
        RequestError: the sub-folders are splits.
    """
    files = _visible(folder)
    found = {kind: {f.with_suffix(""): f for f in files if f.suffix.lower() in own} for kind, own in FILES.items()}
    first = next((kind for kind, own in found.items() if own), "image")
    own = [file for file in files if file.suffix.lower() in FILES[first]]
    _refuse_splits(folder, own)
    _note_other_kinds(folder, files, faults)
    rows = []
    for file in own:
        beside = {kind: of_kind.get(file.with_suffix("")) for kind, of_kind in found.items()}
        try:
            rows.append((str(file), _row(folder, beside | {first: file}, each_line)))
        except UnicodeDecodeError:
            faults(str(file), "the .txt beside it is not UTF-8.")
    return rows


def _visible(folder: Path) -> list[Path]:
    """Return all files below a folder in order, without hidden ones such as .ipynb_checkpoints, and without macOS's copies."""
    found = []
    for place, below, names in os.walk(folder, followlinks=True):
        real = os.path.join(os.path.realpath(place), "")
        # A link to a folder above would be walked for ever.
        below[:] = [
            name
            for name in below
            if not name.startswith((".", "__MACOSX"))
            and not real.startswith(os.path.join(os.path.realpath(os.path.join(place, name)), ""))
        ]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def _refuse_splits(folder: Path, files: list[Path]) -> None:
    names = {file.relative_to(folder).parts[0] for file in files if file.parent != folder}
    if len(names) > 1 and {name.lower() for name in names} <= _SPLITS:
        raise RequestError(
            f"'{folder}' holds the sub-folders {', '.join(sorted(names))}, which are splits and no classes. "
            f"Set data.train={folder / max(names, key=lambda name: name.lower().startswith('train'))}, and data.val or data.test."
        )


def _note_other_kinds(folder: Path, files: list[Path], faults: Faults) -> None:
    known = {suffix for own in FILES.values() for suffix in own} | set(_BESIDE)
    others = Counter(file.suffix.lower() or "no suffix" for file in files if file.suffix.lower() not in known)
    if others:
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common(5))
        faults.notes.append(f"'{folder}': {others.total()} files of kinds that are not read are left out: {kinds}.")


def _row(folder: Path, files: Mapping[str, Path | None], each_line: bool) -> dict[str, Any]:
    row: dict[str, Any] = {kind: str(file.relative_to(folder)) for kind, file in files.items() if file}
    inside = Path(next(iter(row.values())))
    if len(inside.parts) > 1:
        row["label"] = inside.parts[0]
    beside = (folder / inside).with_suffix(".txt")
    if beside.is_file():
        row["caption"] = captions_in(beside.read_text(encoding="utf-8"), each_line)
    return row
