"""The source files that results come from: modules, and whatever these import, read off the import statements."""

import re
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

from mmexp.trust import ROOMS

PACKAGE = Path(__file__).parent
# All that trains and measures is imported from here, at whatever depth, but for the parts that a `_target_` names.
_ROOT = "mmexp.experiment"
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]*(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]*))", re.MULTILINE
)
_COMMENT = re.compile(r"#[^\n]*")


def closure(modules: Iterable[str]) -> dict[str, Path]:
    """Return the source files of modules and of all that these import, directly or through others, by module.

    Imports inside functions count. Libraries that are installed are left out: their versions stand for them. So are
    modules without Python source.
    """
    found: dict[str, Path] = {}
    left, seen = list(modules), {""}
    while left:
        module = left.pop()
        if module in seen:
            continue
        seen.add(module)
        if (path := file_of(module)) is None:
            continue
        found[module] = path
        # A package's __init__ runs before any of its modules.
        left += [module.rpartition(".")[0], *_imported(module, path)]
    return found


def own_modules() -> dict[str, Path]:
    """Return the closure of a run within mmexp: of what trains and measures, and of all modules that a `_target_` may name."""
    named = [_module(file) for room in ROOMS for file in (PACKAGE / room).rglob("*.py")]
    return closure([_ROOT, *named])


def digest(files: dict[str, Path]) -> str:
    """Return 64 hexadecimal digits of the names and the contents of modules."""
    total = sha256()
    for module, path in sorted(files.items()):
        total.update(f"{module} {path.stat().st_size} ".encode())
        total.update(path.read_bytes())
    return total.hexdigest()


def _module(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(module: str, path: Path) -> Iterator[str]:
    """Yield what a module's statements import; of `from a import b` both `a` and `a.b`, since either may be a module."""
    text = path.read_text(encoding="utf-8", errors="replace").replace("\\\n", " ")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for source, names, plain in _IMPORT.findall(text):
        listed = _COMMENT.sub("", names or plain).strip("() \t").replace("\n", " ").split(",")
        every = [name.split()[0] for name in listed if name.split()]
        if source:
            base = _absolute(source, package)
            yield base
            yield from (f"{base}.{name}" for name in every)
        else:
            yield from every


def _absolute(source: str, package: str) -> str:
    """Return the name of a module that stands as it is, or with dots, relative to a package."""
    name = source.lstrip(".")
    up = len(source) - len(name)
    if not up:
        return name
    parts = package.split(".")
    return ".".join(filter(None, [*parts[: len(parts) - up + 1], name]))


def file_of(module: str) -> Path | None:
    """Return the Python file of a module of mmexp or of a user's own, None for libraries; nothing is imported."""
    top, *inner = module.split(".")
    folder = _top(top)
    if folder is None:
        return None
    if not inner:
        return folder / "__init__.py" if folder.is_dir() and (folder / "__init__.py").is_file() else _file(folder)
    place = folder.joinpath(*inner)
    package = place / "__init__.py"
    return package if package.is_file() else _file(place.with_name(f"{place.name}.py"))


def _file(path: Path) -> Path | None:
    return path if path.is_file() else None


@cache
def _top(name: str) -> Path | None:
    """Return the folder of a top-level package, or the file of a module; None for what is installed or built in."""
    if name == PACKAGE.name:
        return PACKAGE
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    # A folder without __init__.py has no origin.
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    if not places or not places[0] or _is_installed(Path(places[0])):
        return None
    path = Path(places[0])
    return path.parent if path.name == "__init__.py" else path


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _libraries()) or "site-packages" in path.parts


@cache
def _libraries() -> set[str]:
    paths = sysconfig.get_paths()
    return {paths[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
