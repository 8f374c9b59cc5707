"""Whatever can change the outputs of a run is in the digest of its code."""

import ast
import re
from pathlib import Path

import pytest

from mmexp import source_closure
from mmexp.caching import fingerprint
from mmexp.runs.code import code_of
from mmexp.source_closure import PACKAGE, closure, digest, own_modules

FILES = {
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): file
    for file in PACKAGE.rglob("*.py")
}


def walked(roots: set[str]) -> set[str]:
    """Return the closure by the syntax trees, apart from the way in which it is read otherwise."""
    found: set[str] = set()
    left = list(roots)
    while left:
        module = left.pop()
        if module not in FILES or module in found:
            continue
        found.add(module)
        left.append(module.rpartition(".")[0])
        for node in ast.walk(ast.parse(FILES[module].read_text())):
            if isinstance(node, ast.Import):
                left += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                left += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def test_every_module_that_a_run_imports_counts():
    named = {
        target
        for file in (PACKAGE.parent / "conf").rglob("*.yaml")
        for target in re.findall(r"_target_: (mmexp\.[\w.]+)\.\w+", file.read_text())
    }
    assert len(named) > 50
    expected = walked({"mmexp.experiment", *named})
    assert expected <= own_modules().keys()
    for module in (
        "attention",
        "plain_attention",
        "dropout",
        "micro_batches",
        "linear",
        "tasks.distill",
        "prefix",
        "frozen",
    ):
        assert f"mmexp.{module}" in own_modules()
    assert not any(
        module.startswith(("mmexp.commands", "mmexp.exporting", "mmexp.serving")) for module in own_modules()
    )


@pytest.mark.parametrize(
    "name", ["attention.py", "dropout.py", "micro_batches.py", "tasks/distill.py", "fusion/xattn.py"]
)
def test_an_edit_changes_the_key_of_artefacts_and_of_runs(name, monkeypatch):
    fingerprint.of_code.cache_clear()
    monkeypatch.setattr("mmexp.runs.code._package", lambda: digest(own_modules()))
    before = fingerprint.of_code.__wrapped__(), code_of({})
    read = Path.read_bytes
    edited = PACKAGE / name
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"# edited" if path == edited else b""))
    after = fingerprint.of_code.__wrapped__(), code_of({})
    assert before[0] != after[0] and before[1] != after[1]


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A user's package and a module beside it, which import in all ways that there are."""
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "own_closure/__init__.py": "",
        "own_closure/part.py": "import json, \\\n    own_closure_beside\nfrom .inner import (\n    deep,  # as a module\n)\n",
        "own_closure/inner/__init__.py": "from ..late import x",
        "own_closure/inner/deep.py": "import torch\n",
        "own_closure/late.py": "def f():\n    from own_closure import lazy as lazily\nx = 1\n",
        "own_closure/lazy.py": "",
        "own_closure/other.py": "",
        "own_closure_beside.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text)
    source_closure._top.cache_clear()
    return tmp_path


def test_a_users_own_part_counts_with_all_that_it_imports(own):
    found = closure(["own_closure.part"])
    inside = {"", ".part", ".inner", ".inner.deep", ".late", ".lazy"}
    assert found.keys() == {*(f"own_closure{name}" for name in inside), "own_closure_beside"}
    config = {"fusion": {"_target_": "own_closure.part.Fusion"}}
    for edited in ("own_closure/lazy.py", "own_closure/inner/deep.py", "own_closure_beside.py"):
        before = code_of(config)
        (own / edited).write_text("edited = True")
        assert code_of(config) != before
    before = code_of(config)
    (own / "own_closure/other.py").write_text("edited = True")
    assert code_of(config) == before


def test_what_a_users_encoder_imports_counts(own):
    (own / "own_closure/part.py").write_text(
        "from torch import nn\nfrom own_closure import lazy\nclass Own(nn.Module): pass\n"
    )
    from own_closure.part import Own

    before = fingerprint.of_source([Own()])
    (own / "own_closure/lazy.py").write_text("edited = True")
    assert fingerprint.of_source([Own()]) != before
