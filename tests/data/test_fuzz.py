"""Tables and archives of any content: the defined error, or rows."""

import io
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from mmexp.data.readers import read_table
from mmexp.errors import RequestError

QUICK = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
JSON = some.recursive(
    some.none() | some.booleans() | some.floats() | some.text(max_size=9),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def read(name: str, content: bytes, skip: bool) -> None:
    """Read a file; what it raises is one line that names it."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / name
        file.write_bytes(content)
        refused = None
        try:
            table = read_table(str(file), skip)
        except RequestError as error:
            refused = str(error)
        if refused is not None:
            assert name in refused and "\n" not in refused.strip(), refused
            return
        assert len(table) == len(table.places) > 0
        assert all(len(column) == len(table) for column in table.columns.values())


@QUICK
@given(
    some.binary(max_size=300),
    some.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.ndjson", "a.parquet", "a.tar"]),
    some.booleans(),
)
def test_any_bytes(content, name, skip):
    read(name, content, skip)


@QUICK
@given(some.lists(some.lists(some.text(max_size=8), max_size=4), max_size=5), some.booleans())
def test_any_cells(rows, skip):
    text = "\n".join(",".join(row) for row in [["image", "caption"], *rows])
    read("a.csv", text.encode("utf-8", "surrogatepass"), skip)


@QUICK
@given(some.lists(JSON, max_size=5), some.booleans())
def test_any_values(rows, skip):
    read("a.jsonl", "\n".join(map(json.dumps, rows)).encode(), skip)


def archive(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


NAMES = some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
SUFFIXES = some.sampled_from(["", ".png", ".txt", ".json", ".cls", ".wav", ".PNG", ".a.json"])


@QUICK
@given(
    some.lists(some.tuples(NAMES, SUFFIXES, some.binary(max_size=40)), max_size=5),
    some.lists(some.tuples(some.integers(0, 4000), some.binary(min_size=1, max_size=9)), max_size=4),
    some.integers(0, 12_000),
    some.booleans(),
)
def test_any_archive_and_any_harm_to_it(members, harms, length, skip):
    content = bytearray(archive([(name + suffix, inside) for name, suffix, inside in members]))
    for place, harm in harms:
        content[place : place + len(harm)] = harm
    read("a.tar", bytes(content[:length]), skip)
