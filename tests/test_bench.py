"""The short form of every benchmark runs once, in this process as far as it can, and without a look at the time."""

import contextlib
import importlib
import io
import logging
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "scripts" / "bench"
sys.path.insert(0, str(BENCH))
import contest as contests  # noqa: E402
from work import commands, reference  # noqa: E402

NAMES = sorted(file.stem for file in BENCH.glob("*.py") if file.stem not in ("__main__", "contest"))
# Ways whose subject is processes, or the compiler: other tests run these (training/test_ddp.py, sweeps/, test_blocks.py).
ELSEWHERE = {
    "compile": ["hardware.compile=true"],
    "ddp": ["two processes, fp32", "two runs apart, fp32"],
    "sweep": ["two warm workers"],
}


def in_this_process(words, folder: Path) -> tuple[str, str]:
    """Run `python WORDS` in `folder` without starting one; return what goes to standard output and to standard error."""
    words = list(map(str, words))
    folder.mkdir(parents=True, exist_ok=True)
    handlers, level = logging.root.handlers[:], logging.root.level
    told, complained = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.ExitStack() as stack:
        patched.chdir(folder)
        patched.setattr(sys, "argv", words[1:] if words[0] == "-m" else words)
        patched.setenv("MMEXP_STAMP", "now")
        stack.enter_context(contextlib.redirect_stdout(told))
        stack.enter_context(contextlib.redirect_stderr(complained))
        try:
            if words[0] == "-m":
                runpy.run_module(words[1], run_name="__main__", alter_sys=True)
            else:
                patched.syspath_prepend(str(Path(words[0]).parent))
                runpy.run_path(words[0], run_name="__main__")
        except SystemExit as end:
            if end.code:
                pytest.fail(f"{words} ended with {end.code}: {complained.getvalue()}")
        finally:
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
    return told.getvalue(), complained.getvalue()


@pytest.fixture
def no_processes(monkeypatch):
    """What benchmarks run as commands is run in this process."""

    def call(command, folder, log):
        folder.mkdir(parents=True, exist_ok=True)
        log.write_text("".join(in_this_process(command, folder)))

    def printed(command, folder):
        return in_this_process(command, folder)[0].splitlines()[-1]

    def seconds(folder, command):
        if command[0] == "-c":
            subprocess.run([sys.executable, *command], check=True)
        else:
            told, complained = in_this_process(command, folder)
            assert told or "step 1" in complained
        return {"seconds": 1.0}

    monkeypatch.setattr(commands, "call", call)
    for name in NAMES:
        module = importlib.import_module(name)
        if hasattr(module, "printed"):
            monkeypatch.setattr(module, "printed", printed)
    monkeypatch.setattr(importlib.import_module("start"), "seconds", seconds)


@pytest.mark.parametrize("name", NAMES)
def test_every_way_of_the_short_form_gives_its_numbers(tmp_path, monkeypatch, name, no_processes):
    monkeypatch.setattr(contests, "has_bf16", lambda: False)
    monkeypatch.setitem(reference.MODEL, "vision_cfg", {**reference.MODEL["vision_cfg"], "layers": 2})
    monkeypatch.setitem(reference.MODEL, "text_cfg", {**reference.MODEL["text_cfg"], "layers": 1})
    whole = importlib.import_module(name).contest(tmp_path, short=True)
    ways = {way: work for way, work in whole.without_emulation().ways.items() if way not in ELSEWHERE.get(name, ())}
    assert {way for goal in whole.goals for way in (goal.ours, goal.peer)} <= whole.ways.keys()
    assert set(ELSEWHERE.get(name, ())) < whole.ways.keys()
    outcome = contests.run(replace(whole, ways=ways, goals=()), 1)
    assert outcome.rounds.keys() == ways.keys() and ways
    for [numbers] in outcome.rounds.values():
        assert numbers[whole.measure] > 0


@pytest.mark.parametrize("native", [True, False])
def test_emulated_bf16_takes_no_part(monkeypatch, native):
    monkeypatch.setattr(contests, "has_bf16", lambda: native)
    goals = [contests.Goal("ours", "peer", 2.0), contests.Goal("ours", "peer, bf16", 1.5)]
    ways = dict.fromkeys(("ours", "peer", "peer, bf16"), dict)
    held = contests.Contest("work", "it", ways, goals, bf16=["peer, bf16"]).without_emulation()
    assert list(held.ways) == (list(ways) if native else ["ours", "peer"])
    assert held.goals == (goals if native else goals[:1])


@pytest.mark.parametrize("name", ["contrastive", "ddp", "evaluation", "lora", "prefix", "prefix_vit"])
def test_a_benchmark_names_all_of_its_ways_that_compute_in_bf16(tmp_path, monkeypatch, name):
    module = importlib.import_module(name)
    for maker in ("write_model", "write_table", "write_bert", "write_texts", "labelled", "mmexp_train"):
        if hasattr(module, maker):
            monkeypatch.setattr(module, maker, lambda *_, **__: tmp_path)
    whole = module.contest(tmp_path, short=False)
    assert list(whole.bf16) == [way for way in whole.ways if "bf16" in way]


def test_a_wrong_name_is_refused(tmp_path):
    command = [sys.executable, str(BENCH), "contrastiv", "--short"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2 and "no benchmark is called contrastiv; there are compile, contrastive" in done.stderr
    assert not list(tmp_path.iterdir())
