"""Does a value fit an annotation? Annotations are source text, so that nothing needs to be imported."""

import ast
from collections.abc import Callable
from typing import Any

from mmexp.curriculum import SHAPES


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", _whole),
    "PositiveInt": ("a whole number above 0", lambda v: _whole(v) and v > 0),
    "NonNegativeInt": ("a whole number, 0 or more", lambda v: _whole(v) and v >= 0),
    "float": ("a number", _number),
    "PositiveFloat": ("a number above 0", lambda v: _number(v) and v > 0),
    "NonNegativeFloat": ("a number, 0 or more", lambda v: _number(v) and v >= 0),
    "Fraction": ("a number from 0 to 1", lambda v: _number(v) and 0 <= v <= 1),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "str": ("text", lambda v: isinstance(v, str)),
    "None": ("null", lambda v: v is None),
    "list": ("a list", lambda v: isinstance(v, list)),
    "Sequence": ("a list", lambda v: isinstance(v, list)),
    "tuple": ("a list", lambda v: isinstance(v, list)),
    "dict": ("a mapping", lambda v: isinstance(v, dict)),
    "Mapping": ("a mapping", lambda v: isinstance(v, dict)),
}


def expected(value: Any, annotation: str) -> str | None:
    """Return None where `value` fits `annotation`, else what would fit, in words. An unknown annotation fits all."""
    if not annotation:
        return None
    wanted = [_expected(value, part) for part in _alternatives(ast.parse(annotation, mode="eval").body)]
    return None if None in wanted else " or ".join(dict.fromkeys(w for w in wanted if w))


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


def _expected(value: Any, node: ast.expr) -> str | None:
    if isinstance(node, ast.Subscript):
        return _expected_of_generic(value, ast.unparse(node.value), node.slice)
    words, fits = _KINDS.get(ast.unparse(node), ("", lambda _: True))
    return None if fits(value) else words


def _expected_of_generic(value: Any, name: str, inner: ast.expr) -> str | None:
    if name == "Literal":
        choices = [ast.literal_eval(e) for e in (inner.elts if isinstance(inner, ast.Tuple) else [inner])]
        return None if value in choices else f"one of {', '.join(map(str, choices))}"
    if name == "Curriculum":
        return _expected_of_curriculum(value, ast.unparse(inner))
    words, fits = _KINDS.get(name, ("", lambda _: True))
    if not fits(value):
        return words
    if name in ("list", "Sequence") and isinstance(value, list):
        wrong = [expected(item, ast.unparse(inner)) for item in value]
        return next((f"a list, each item {w}" for w in wrong if w), None)
    if name in ("dict", "Mapping") and isinstance(value, dict) and isinstance(inner, ast.Tuple):
        wrong = [expected(item, ast.unparse(inner.elts[1])) for item in value.values()]
        return next((f"a mapping, each value {w}" for w in wrong if w), None)
    return None


def _expected_of_curriculum(value: Any, inner: str) -> str | None:
    """Check a value that may change in the course of a run: one that fits `inner`, or a mapping between two such."""
    if not isinstance(value, dict):
        words = expected(value, inner)
        return words and f"{words} or a mapping from one to another"
    keys = {"from": inner, "to": inner, "start": "Fraction", "end": "Fraction", "shape": f"Literal{list(SHAPES)}"}
    if not {"from", "to"} <= set(value) <= set(keys):
        return f"a mapping with from and to, and nothing else but {', '.join(list(keys)[2:])}"
    wrong = [(key, expected(value[key], keys[key])) for key in value]
    if value_wrong := next(((key, words) for key, words in wrong if words), None):
        return f"a mapping whose '{value_wrong[0]}' is {value_wrong[1]}"
    return None if value.get("start", 0) < value.get("end", 1) else "a mapping whose 'start' comes before its 'end'"
