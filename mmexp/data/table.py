"""A user's own data: a table of pictures, texts, sounds and videos, in whatever form it is kept."""

from collections.abc import Collection, Mapping
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mmexp.data.checking import faulty_rows, present_in
from mmexp.data.contents import content_digest
from mmexp.data.decoding import Decoding
from mmexp.data.degenerate import degenerate_notes
from mmexp.data.few_labels import keep_labels
from mmexp.data.found_columns import found_columns, names_label
from mmexp.data.labels import number_labels, read_numbers
from mmexp.data.readers import read_table
from mmexp.data.stored import is_empty
from mmexp.data.table_items import number_concepts, number_items
from mmexp.data.table_rows import TableSamples
from mmexp.data.tables import Table
from mmexp.data.validation import with_validation
from mmexp.errors import RequestError, nearest
from mmexp.types import DataSource, Fraction, PositiveFloat, PositiveInt

MODALITIES = ("image", "text", "audio", "video")
ANSWERS = ("label", "target", "concept")


def table(
    train: str,
    columns: dict[str, str | None],
    val: str | None = None,
    test: str | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    val_fraction: Fraction = 0.1,
    label_separator: str | None = None,
    labels_per_class: PositiveInt | None = None,
    seconds: PositiveFloat = 30.0,
    frames: PositiveInt = 8,
    missing: Literal["raise", "keep"] = "raise",
    kinds: Mapping[str, str] = MappingProxyType({}),
    files: Literal["inside", "anywhere"] = "inside",
    caption_lines: Literal["whole", "each"] = "whole",
    wanted: Collection[str] = (),
    all_labels: bool = False,
) -> DataSource:
    """Return the splits at the paths `train`, `val` and `test`; without `val` a share of train is held out.

    `columns` maps image, text, audio, video, label, target (a number) and concept to a column, or to None; further modalities
    too, whose `kinds` (image, text, audio or video) `build` knows by their encoders. Rows are of one concept where the concept
    column says so; without one, every row is a concept of its own. `label: auto` is the column `label` where the folder has
    one sub-folder a class, or where labels or targets are `wanted` by an objective. With `all_labels` classes are those of all
    splits, otherwise a label that train lacks is refused. A label cell that is a list, or text with `label_separator`, holds
    several labels. Of `train`, `labels_per_class` rows of each class keep their label. Of a sound the
    first `seconds` are read, of a video `frames` frames. With `missing` keep a row may have an empty cell for any modality, as
    long as it has one of them. Files that cells name lie `inside` the table's folder,
    or `anywhere`. A .txt in a tar or beside a file is one caption as a `whole`, or `each` of its lines is one. Raises
    RequestError for paths, columns and rows that are wrong.
    """
    paths = {name: path for name, path in (("train", train), ("val", val), ("test", test)) if path}
    skip = on_error == "skip"
    _chosen(columns, kinds)
    tables = {name: read_table(path, skip, caption_lines == "each") for name, path in paths.items()}
    found, notes = found_columns(columns, tables["train"], wanted)
    chosen = _chosen(found, kinds)
    modalities = {name: kinds.get(name, name) for name in chosen if name not in ANSWERS}
    decode = Decoding(seconds, frames, files == "anywhere")
    splits, skipped = {}, {}
    for name, one in tables.items():
        for note in one.notes:
            print(note)
        _check_columns(one, chosen)
        splits[name], faulty = _readable(one, chosen, modalities, decode, missing == "keep", skip)
        if left_out := [*one.faults, *(faulty[row] for row in sorted(faulty))]:
            skipped[name] = len(left_out)
            print(f"{paths[name]}: {len(left_out)} of {len(one) + len(one.faults)} rows left out. First: {left_out[0]}")
    _refuse_empty(splits["train"])
    number_concepts(splits.values())
    number_items(list(splits.values()))
    classes = (
        number_labels(splits["train"], list(splits.values()), label_separator, all_labels) if "label" in chosen else []
    )
    if classes and wanted and "text" in chosen and (named := names_label(splits["train"], classes)):
        notes.append(named)
    for samples in splits.values() if "target" in chosen else ():
        samples.number = read_numbers(samples)
    # Before rows are held out: the files of both parts are those of the table.
    content = _fingerprint(tables, splits, chosen, label_separator, labels_per_class)
    if "val" not in splits and val_fraction:
        parts, how = with_validation(splits["train"], val_fraction)
        splits |= parts
        notes.append(how)
    notes += degenerate_notes(splits, classes)
    splits["train"].labels = keep_labels(splits["train"].labels, labels_per_class)
    return DataSource(
        splits, list(modalities), classes, content, skipped, concepts_stated="concept" in chosen, notes=notes
    )


def _readable(
    one: Table, chosen: Mapping[str, str], modalities: Mapping[str, str], decode: Decoding, keep: bool, skip: bool
) -> tuple[TableSamples, dict[int, str]]:
    """Return the rows that can be read, and what is wrong with the others, which `skip` leaves out.

    To `keep` a row with empty cells it is enough that one is not. Raises RequestError where no row is left.
    """
    present = present_in(one, chosen, modalities) if keep else None
    faulty = faulty_rows(one, chosen, modalities, decode, present)
    rows = np.setdiff1d(np.arange(len(one)), list(faulty))
    if faulty and not (skip and len(rows)):
        nothing = f"'{one.name}' has no row that can be read. " if skip else ""
        empty = any(is_empty(one.columns[chosen[name]][min(faulty)]) for name in modalities)
        raise RequestError(nothing + _told(faulty, empty and not keep))
    samples = TableSamples(one, chosen, modalities, rows, decode)
    samples.present = {n: there[rows] for n, there in (present or {}).items() if not there[rows].all()}
    return samples, faulty


def _chosen(columns: Mapping[str, str | None], kinds: Mapping[str, str]) -> dict[str, str]:
    """Return what is chosen of `columns`: modalities first, in an order that does not depend on how they were asked for."""
    known = (*MODALITIES, *sorted(kinds), *ANSWERS)
    for name in columns:
        if name not in known:
            raise RequestError(
                f"'data.columns.{name}' is not a key.{nearest(name, known)} "
                f"A further modality has an encoder of its name: +encoder/text@encoder.{name}=transformer."
            )
    chosen = {name: column for name in known if (column := columns.get(name)) is not None}
    if not set(chosen) - set(ANSWERS):
        raise RequestError("data.columns: no modality is there. Set data.columns.image=COLUMN.")
    return chosen


def _check_columns(one: Table, chosen: Mapping[str, str]) -> None:
    for kind, column in chosen.items():
        if column not in one.columns:
            raise RequestError(
                f"'{one.name}' has no column '{column}' (data.columns.{kind}).{nearest(column, one.columns)} "
                f"Set data.columns.{kind}=COLUMN, or null to leave it out."
            )


def _refuse_empty(train: TableSamples) -> None:
    """Raise RequestError for a column of which no row of train has anything, whether it is read or learned."""
    for name, column in train.columns.items():
        cells = (train.cell(row, name) for row in range(len(train)))
        if name != "concept" and all(is_empty(cell) or cell != cell for cell in cells):
            raise RequestError(
                f"'{train.table.name}': column '{column}' (data.columns.{name}) is empty in every row of train. "
                f"Set data.columns.{name}=COLUMN, or null to leave it out."
            )


def _told(faulty: Mapping[int, str], empty: bool) -> str:
    """Return the first fault, and what to do; `empty`: a cell is, and rows with such are not kept."""
    more = f" {len(faulty) - 1} more rows are wrong." if len(faulty) > 1 else ""
    keep = " data.missing=keep learns from what they have." if empty else ""
    return f"{faulty[min(faulty)]}{more} data.on_error=skip leaves such rows out and counts them.{keep}"


def _fingerprint(
    tables: Mapping[str, Table], splits: Mapping[str, TableSamples], chosen: Mapping[str, str], *labelling: Any
) -> str:
    """Return 16 hexadecimal digits of what the tables and all files that their rows are read from hold."""
    held = sorted((name, one.digest, content_digest(splits[name].files())) for name, one in tables.items())
    content = repr((held, sorted(chosen.items()), labelling))
    return sha256(content.encode()).hexdigest()[:16]
