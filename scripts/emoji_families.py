"""Which emoji concepts are near-relatives: woman X, man X and person X; clock faces; phases of the moon."""

import hashlib
import re
from collections.abc import Sequence

_GENDER = re.compile(r"\b(man|men|woman|women|person|people|boy|girl|male|female|mr|mrs|mx|merman|mermaid|merperson)\b")
_HAIR = re.compile(r":? ?(red hair|curly hair|white hair|bald|blond hair|beard)$")
_TURN = re.compile(r" facing right$")
# The animal and its face: dog and dog face.
_FACE = re.compile(r" face$")
# Series whose members differ by a hand of a clock, a digit, a direction.
_SERIES = {
    "clock face": re.compile(r"(o’clock|-thirty)$"),
    "keycap": re.compile(r"^keycap"),
    "moon": re.compile(r"moon( face)?$|^(crescent|full|new|last|first).*moon"),
    "arrow": re.compile(r"arrow"),
    "pointing": re.compile(r"index pointing|pointing at the viewer"),
    "kiss or couple": re.compile(r"^(kiss:|kiss$|couple with heart|family|.*holding hands)"),
    "numbered medal": re.compile(r"place medal$"),
    "mailbox": re.compile(r"mailbox"),
    "cloud and sun": re.compile(r"^sun behind|cloud with"),
    "signal bars": re.compile(r"speaker (low|medium|high) volume|muted speaker"),
    "triangle": re.compile(r"(red triangle pointed|button)$|(upwards|downwards) button$"),
}
_PEOPLE = {"1f468", "1f469", "1f9d1", "1f466", "1f467", "1f9d2"}
_DROPPED = {
    "200d",
    "2640",
    "2642",
    "27a1",
    "1f9b0",
    "1f9b1",
    "1f9b2",
    "1f9b3",
    "1f3fb",
    "1f3fc",
    "1f3fd",
    "1f3fe",
    "1f3ff",
}


def stable_fraction(*words: str) -> float:
    """Return a number in [0, 1) that depends on `words` alone, on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(words).encode()).digest()[:8]) / 2**64


def _by_code(code: str) -> str:
    """Return the code without gender, hair, skin and direction; any person stands for all."""
    parts = [part for part in code.split("-") if part not in _DROPPED]
    return "-".join("person" if part in _PEOPLE else part for part in parts) or code


def _by_label(label: str) -> str:
    for name, pattern in _SERIES.items():
        if pattern.search(label):
            return name
    plain = _FACE.sub("", _TURN.sub("", _HAIR.sub("", label.lower())))
    return " ".join(_GENDER.sub(" ", plain).replace(":", " ").split()) or "person"


def families(concepts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return code -> name of its family, for `(code, label)` pairs: relatives by code or by label, and theirs."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for code, label in concepts:
        for relative in (f"code {_by_code(code)}", f"label {_by_label(label)}"):
            a, b = sorted((root(f"concept {code}"), root(relative)))
            parent[b] = a
    return {code: root(f"concept {code}") for code, _ in concepts}
