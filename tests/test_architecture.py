"""The direction of the imports, read from the syntax tree."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mmexp"
LEAVES = ("caching", "encoders", "fusion", "objectives", "balance", "adapters", "continual", "data", "augmentations")
SHARED = (
    "graph",
    "rows",
    "lean",
    "types",
    "shapes",
    "step",
    "errors",
    "attention",
    "plain_attention",
    "linear",
    "dropout",
    "positions",
    "transformer_block",
    "curriculum",
    "draws",
    "spacing",
    "state_dicts",
    "source_closure",
)
# What each room may import of the package; a file at the top is a room of its own.
MAY = {
    "errors": set(),
    "plain_attention": {"dropout"},
    "processor": set(),
    "linear": {"plain_attention", "processor"},
    "attention": {"linear", "plain_attention"},
    "dropout": set(),
    "graph": set(),
    "rows": set(),
    "positions": {"errors", "rows"},
    "transformer_block": {"attention", "plain_attention", "positions"},
    "curriculum": set(),
    "lean": set(),
    "types": {"rows"},
    "shapes": {"types"},
    "step": {"types", "curriculum", "draws"},
    "draws": set(),
    "spacing": set(),
    "state_dicts": {"errors"},
    "pace": set(),
    "source_closure": {"trust"},
    **{leaf: {*SHARED, leaf} for leaf in LEAVES},
    "micro_batches": {"types"},
    "blocks": {"errors", "attention", "adapters", "micro_batches", "model"},
    "prefix": {"types", "attention", "adapters"},
    "model": {"types", "shapes", "micro_batches", "prefix"},
    "weights": {"errors", "compression"},
    "compression": {"errors", "compression"},
    "frozen": {"types", "errors", "frozen_parts", "caching", "data"},
    "pictures_kept": {"types", "errors", "caching", "data"},
    "frozen_parts": {"types", "model", "prefix", "teacher", "caching", "data"},
    "teacher": {"types", "shapes", "model", "tasks"},
    "tasks": {"types", "rows", "step", "curriculum", "draws", "pace", "model", "tasks", "continual"},
    "needs": {"shapes", "errors", "model", "signatures"},
    "signatures": {"errors"},
    "trust": {"errors"},
    "values": {"curriculum"},
    "combinations": {"errors", "pace", "signatures"},
    "config": {"errors", "curriculum", "signatures", "trust", "values", "combinations"},
    "compose": {"errors", "per_tower"},
    "per_tower": {"swapped_towers"},
    "swapped_towers": set(),
    "chain": {"errors", "compose", "config"},
    "resume_proof": {"errors"},
    "matrix": {"errors", "compose", "config", "signatures", "tasks", "request", "experiment", "matrix"},
    "exporting": {"errors", "types", "attention", "encoders", "model", "exporting"},
    "inference": {"types", "data", "build", "compression"},
    "serving": {"errors", "build", "data", "serving"},
    "judging": {"types", "attention", "plain_attention", "model", "data", "tasks", "judging"},
    "compressing": {"build", "compression", "data", "judging", "model", "runs", "weights"},
    "metrics": set(),
    "comparison": {"errors", "metrics", "runs", "comparison"},
    "sweeps": {"errors", "metrics", "pace", "compose", "config", "build", "runs", "comparison", "training", "sweeps"},
    "cli": {"errors", "trust", "commands"},
}
OUTSIDE = {"hydra", "lightning", "wandb", "omegaconf"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "mmexp" else {str(node.module)}
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path: Path):
    own = {name.split(".")[1] for name in imports(path) if name.startswith("mmexp.")}
    allowed = MAY.get(room(path))
    assert allowed is None or own <= allowed
    if room(path) in LEAVES:
        assert not {name.split(".")[0] for name in imports(path)} & OUTSIDE
    # W&B is asked where it is named as what to compare.
    if room(path) == "comparison" and path.name != "wandb_runs.py":
        assert not {name.split(".")[0] for name in imports(path)} & {*OUTSIDE, "torch"}


def test_no_two_rooms_import_each_other_even_by_way_of_others():
    direct = {room(path): set() for path in FILES}
    for path in FILES:
        direct[room(path)] |= {name.split(".")[1] for name in imports(path) if name.startswith("mmexp.")} - {room(path)}
    # A room's order is found where all that it imports have theirs; a cycle never is.
    TopologicalSorter(direct).prepare()


def test_only_build_instantiates():
    callers = {room(path) for path in FILES if "hydra.utils" in imports(path)}
    assert callers == {"build"}


def test_the_command_line_needs_only_the_standard_library():
    import sys

    outside = {name.split(".")[0] for name in imports(PACKAGE / "cli.py")} - {"mmexp"}
    assert outside <= sys.stdlib_module_names
