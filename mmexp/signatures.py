"""What a `_target_` accepts, read from its source text: nothing is imported, so a wrong key is answered in no time."""

import ast
import importlib
import importlib.util
import inspect
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from mmexp.errors import RequestError


@dataclass(frozen=True)
class Signature:
    """Parameter names with their annotations as source text ("" where there is none), and the class's `needs`."""

    parameters: dict[str, str]
    open_ended: bool = False
    needs: tuple[str, ...] = ()
    constants: dict[str, Any] = field(default_factory=dict)


@cache
def signature(target: str) -> Signature:
    """Return what `package.module.name` accepts. Raises RequestError where there is no such thing."""
    module, _, name = target.rpartition(".")
    path = source_of(module)
    if path is None:
        return _imported(target, module, name)
    body = ast.parse(path.read_text()).body
    node = next((node for node in body if isinstance(node, _NAMED) and node.name == name), None)
    if node is None:
        return _imported(target, module, name)
    return _of_class(node, _base(node, body, module)) if isinstance(node, ast.ClassDef) else _of_function(node.args)


_NAMED = ast.ClassDef | ast.FunctionDef


def source_of(module: str) -> Path | None:
    """Return the module's Python file, without importing it where its packages are plain."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _of_function(arguments: ast.arguments, skip_self: bool = False) -> Signature:
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][int(skip_self) :]
    names = {a.arg: ast.unparse(a.annotation) if a.annotation else "" for a in every}
    return Signature(names, open_ended=arguments.kwarg is not None)


def _base(node: ast.ClassDef, body: list[ast.stmt], module: str) -> Signature:
    """Return what a class has from its base: a neighbour in its file, or one of this project that it imports."""
    own = {one.name for one in body if isinstance(one, ast.ClassDef)}
    imported = {a.name: one.module or "" for one in body if isinstance(one, ast.ImportFrom) for a in one.names}
    for base in map(ast.unparse, node.bases):
        if base in own:
            return signature(f"{module}.{base}")
        if imported.get(base, "").partition(".")[0] == "mmexp":
            return signature(f"{imported[base]}.{base}")
    return Signature({}, open_ended=bool(node.bases))


def _of_class(node: ast.ClassDef, base: Signature) -> Signature:
    constants = dict(base.constants)
    for statement in node.body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            try:
                constants[statement.targets[0].id] = ast.literal_eval(statement.value)
            except ValueError:
                continue
    init = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    if init is not None:
        found = _of_function(init.args, skip_self=True)
    elif any("dataclass" in ast.unparse(d) for d in node.decorator_list):
        fields = [s for s in node.body if isinstance(s, ast.AnnAssign) and isinstance(s.target, ast.Name)]
        found = Signature({ast.unparse(s.target): ast.unparse(s.annotation) for s in fields})
    else:
        found = base
    needs = tuple(constants.get("needs", ()))
    return Signature(found.parameters, found.open_ended, needs, constants)


def _imported(target: str, module: str, name: str) -> Signature:
    """The slow way, for what has no plain source: import it."""
    try:
        thing = getattr(importlib.import_module(module), name)
        parameters = inspect.signature(thing).parameters
    except (ImportError, AttributeError, ValueError) as error:
        raise RequestError(f"_target_: '{target}' cannot be imported: {error}") from error
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return Signature(dict.fromkeys(parameters, ""), open_ended, tuple(getattr(thing, "needs", ())))
