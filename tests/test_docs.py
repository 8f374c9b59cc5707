"""Every command that README and docs/ show is run: with one step and few rows instead of all, on small data where they name a
user's own. Of several seeds the first stands for all.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
from comparison.made_up import write
from PIL import Image

from mmexp import cli
from mmexp.data.orders import EvaluationOrder

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHORT = ["budget.steps=1", "data.num_workers=0"]
# Of each evaluation set.
ROWS = 24
# What installs, cleans up or needs an account is run by CI or by a person.
ELSEWHERE = ("make ", "git clone", "cd ", "source ", "wandb sync", "pip ", "python scripts/", "npm ", "tensorboard ")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    joined = "\n".join(blocks(page, "bash")).replace("\\\n", " ")
    lines = (line.partition(" #")[0].strip() for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def files(page: Path) -> dict[str, str]:
    """Return the files that a page tells its reader to write: `name`: and then the text."""
    found = re.findall(r"`([\w./]+\.\w+)`:\n\n```\w+\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return dict(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return a folder with what the pages take for granted: a user's own table and pictures."""
    here = tmp_path_factory.mktemp("docs")
    lines = ["image,caption,file,title,label,sound"]
    for number in range(48):
        colour = ("red", "green", "blue")[number % 3]
        picture = here / "photos" / colour / f"{number}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30 + number), colour).save(picture)
        tone = np.sin(np.arange(4000) * (number + 1) / 50)
        soundfile.write(picture.with_suffix(".wav"), tone, 8000)
        path, heard = picture.relative_to(here), picture.with_suffix(".wav").relative_to(here)
        lines.append(f"{path},{colour} {number},{path},{colour},{colour},{heard}")
    (here / "captions.csv").write_text("\n".join(lines))
    for number in range(20):
        frames = [Image.new("RGB", (16, 16), (9 * number, 30 * place, 0)) for place in range(5)]
        frames[0].save(here / f"{number}.webp", save_all=True, append_images=frames[1:])
    clips = [f"{number}.webp,clip {number}" for number in range(20)]
    (here / "clips.csv").write_text("\n".join(["clip,caption", *clips]))
    for number, (fusion, seed) in enumerate(product(("concat", "xattn"), range(3))):
        write(
            here / "outputs" / "sweeps" / "fusions" / str(number), {"fusion": fusion, "seed": seed}, 0.3 + number / 50
        )
    for page in PAGES:
        for name, text in files(page).items():
            (here / name).parent.mkdir(parents=True, exist_ok=True)
            (here / name).write_text(text)
    return here


def is_compared(line: str, lines: list[str]) -> bool:
    """Say whether a later command compares the sweep of this one."""
    name = re.search(r"sweep\.name=(\S+)", line)
    return bool(name) and any(one.startswith(f"mmexp compare outputs/sweeps/{name[1]}") for one in lines)


def run_here(line: str, monkeypatch, evaluate: bool = False) -> int:
    """Run one `mmexp` command in this process, which has its libraries loaded already."""
    words = shlex.split(line)
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        monkeypatch.setenv(name, value)
        if name == "PYTHONPATH":
            monkeypatch.syspath_prepend(value)
    monkeypatch.delenv("MMEXP_STAMP", raising=False)
    words = [re.sub(r"^(seed=\d+),[\d,]+$", r"\1", word) for word in words]
    monkeypatch.setattr(EvaluationOrder, "_own", lambda order: list(range(min(order.rows, ROWS))))
    # Small enough for a user's small tables, and large enough to be quick.
    short = [*SHORT, f"data.batch_size={8 if 'tables=' in line else 16}"]
    short += [] if re.search(r"data=|data\.styles|easy_vqa", line) else ["data.styles=[blob]"]
    trains = (words[1] == "train" and "--cfg" not in words) or (words[1] == "chain" and len(words) > 2)
    monkeypatch.setattr(sys, "argv", ["mmexp", *words[1:], *([*short, f"evaluate={evaluate}"] if trains else [])])
    try:
        return cli.main()
    finally:
        os.environ.pop("MMEXP_STAMP", None)


def clear(folder: Path) -> None:
    """Delete what a page's commands wrote, gigabytes for all pages, but for the sweep that all of them take for granted."""
    for part in (folder / "outputs").iterdir():
        for run in part.iterdir() if part.name == "sweeps" else [part]:
            if run.name != "fusions":
                shutil.rmtree(run)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_runs(page, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for line in commands(page):
        if line.startswith(ELSEWHERE):
            continue
        if line.startswith("wandb "):
            tool, subcommand = line.split()[:2]
            beside = Path(sys.executable).with_name(tool)
            assert subprocess.run([beside, subcommand, "--help"], capture_output=True).returncode == 0, line
            continue
        with monkeypatch.context() as patch:
            assert run_here(line, patch, is_compared(line, commands(page))) == 0, f"{line}\n{capsys.readouterr().err}"
    clear(folder)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_shows_of_a_terminal_is_what_one_gets(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "console"):
        line, _, shown = block.removeprefix("$ ").partition("\n")
        with monkeypatch.context() as patch:
            run_here(line, patch)
        out, err = capsys.readouterr()
        assert shown.strip() in out + err
