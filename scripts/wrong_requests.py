"""Command lines that are wrong, drawn by a seed, and whether each is answered: status 2, a few lines that name it, no traceback.

    python scripts/wrong_requests.py [--count 1000] [--seed 0] [--jobs 2]

What is drawn: typos in commands, groups, choices and keys, values of another type or out of range, syntax, files that are not
there, parts that do not go together. Ends with status 1 where one is answered otherwise, and prints those.
"""

# ruff: noqa: E501 - a list of command lines

import argparse
import contextlib
import io
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

Wrong = tuple[str, list[str], str]
"""A kind, the words of a command line, and what of them the answer must name."""
MOST_LINES = 4
SHORT = ("budget.steps=1", "evaluate=false", "data.num_workers=0")


@cache
def known() -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the default configuration's keys with their values, and the choices of each group."""
    from mmexp.compose import compose, resolved

    config, _ = resolved(compose([]))
    conf = Path(__file__).parents[1] / "conf"
    groups = {
        folder.name: [file.stem for file in folder.glob("*.yaml")] for folder in conf.iterdir() if folder.is_dir()
    }
    groups = {
        name: choices
        for name, choices in groups.items()
        if choices and name not in ("hydra", "experiment", "chain", "search")
    }
    return dict(_keys(config)), groups


def _keys(config: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        # Towers that the default data has no use for are not looked at.
        if key in ("_target_", "trust", "audio", "video", "options"):
            continue
        if isinstance(value, Mapping):
            yield from _keys(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def typo(draws: random.Random, word: str) -> str:
    """Return a word with a letter left out, doubled, swapped with the next or put in."""
    place = draws.randrange(len(word))
    others = [
        word[:place] + word[place + 1 :],
        word[:place] + word[place] + word[place:],
        word[:place] + word[place + 1 : place + 2] + word[place] + word[place + 2 :],
        word[:place] + draws.choice("aeiouxz") + word[place:],
    ]
    return draws.choice(
        [other for other in others if other and other != word and not other[0].isdigit()] or [f"{word}x"]
    )


def in_group(draws: random.Random) -> Wrong:
    """A group that there is not."""
    _, groups = known()
    group = draws.choice(sorted(groups))
    wrong = typo(draws, group)
    return (
        ("group", ["train", f"{wrong}={draws.choice(groups[group])}"], wrong)
        if wrong not in groups
        else in_group(draws)
    )


def in_choice(draws: random.Random) -> Wrong:
    """A choice that its group has not."""
    _, groups = known()
    group = draws.choice(sorted(groups))
    wrong = typo(draws, draws.choice(groups[group]))
    return (
        ("choice", [draws.choice(["train", "plan"]), f"{group}={wrong}"], wrong)
        if wrong not in groups[group]
        else in_choice(draws)
    )


def in_key(draws: random.Random) -> Wrong:
    """A key that its part has not."""
    keys, _ = known()
    before, _, last = draws.choice(sorted(keys)).rpartition(".")
    wrong = f"{before}.{typo(draws, last)}".lstrip(".")
    if wrong in keys:
        return in_key(draws)
    return "key", ["train", f"{draws.choice(['', '+'])}{wrong}=1"], wrong.rpartition(".")[2]


def of_type(draws: random.Random) -> Wrong:
    """A value of another type."""
    keys, _ = known()
    typed = {key: value for key, value in keys.items() if isinstance(value, bool | int | float) and key != "name"}
    key = draws.choice(sorted(typed))
    # A bool is no number, and no number is a list or a word.
    value = draws.choice(["many", "[1,2]", "{a: 1}", "''", "1.5.2"])
    return "type", ["train", f"{key}={value}"], key.rpartition(".")[2]


def out_of_range(draws: random.Random) -> Wrong:
    """A number that cannot be."""
    word = draws.choice(
        ["data.batch_size=0", "data.batch_size=-3", "seed=-1", "budget.epochs=0", "budget.steps=0", "log_every_steps=0",
         "hardware.threads=0", "average.decay=2", "cache.max_bytes=-1", "checkpoint.keep=-1", "data.num_workers=-1",
         "hardware.precision=fp8", "hardware.accelerator=tpu", "cache.dtype=int8", "early_stopping.patience=0",
         "optimizer.lr=-1", "encoder.text.heads=5", "encoder.text.depth=0", "data.batch_size=10000000",
         "objective.contrastive.temperature=0", "objective.contrastive.embed_dim=0", "data.fraction=1.5",
         "data.without=[smell]", "data.locale=xx", "variation.views=0", "trainer.on_nonfinite=ignore", "trust=3"]
    )  # fmt: skip
    return "range", ["train", word], word.partition("=")[0].rpartition(".")[2]


def of_syntax(draws: random.Random) -> Wrong:
    """What is no setting at all."""
    word = draws.choice(
        ["seed=[1", "encoder==vit", "=3", "sede", "data={a", "seed=1=2", "+", "~", "name='a", "++=", "a b", "seed:3"]
    )
    return "syntax", ["train", word], word.strip("+~='")[:4].split("=")[0]


def missing(draws: random.Random) -> Wrong:
    """A file that is not there."""
    name = f"nowhere{draws.randrange(100)}"
    words = draws.choice(
        [["train", f"init_from={name}"], ["train", f"resume={name}"], ["train", "task=distill", "fusion=none", "objective=[contrastive,distill]",
         f"teacher={name}"], ["train", "data=table", f"data.train={name}.csv"], ["train", "data=table", f"data.train={name}"],
         ["train", "data=table", f"data.train=hf.{name}"], ["train", "--config-dir", name], ["compare", name], ["lineage", name],
         ["chain", name], ["train", f"encoder.text.tokenizer={name}.json"], ["train", "encoder/text=huggingface",
         f"encoder.text.name=./{name}"], ["watch", name, "--once"], ["train", f"experiment={name}"], ["list", name],
         ["train", f"init_from={name}/checkpoints/best.ckpt"], ["train", "data=table", f"data.train={name}-{{0..3}}.tar"],
         ["train", "data=table", "data.train=rows.csv", f"data.columns.image={name}"], ["cache", "rm", name],
         ["train", "encoder=open_clip", f"encoder.image.name=local-dir:{name}", f"encoder.text.name=local-dir:{name}"]]
    )  # fmt: skip
    return "missing", words, name


def together(draws: random.Random) -> Wrong:
    """Parts that do not go together."""
    words, named = draws.choice(
        [(["fusion=none"], "fusion"), (["objective=supcon", "data.label=null"], "label"),
         (["adapter=lora", "encoder=swin"], "adapter"), (["adapter=lora", "encoder=cnn", "init_from=null"], "adapter"), (["train=false"], "train"),
         (["objective=distill"], "distill"), (["task=distill"], "teacher"), (["adapter=frozen", "objective=contrastive", "fusion=none",
         "encoder/image=swin"], "adapter"), (["objective=mae", "encoder/image=cnn"], "mae"), (["fusion=none", "objective=classify", "objective.classify.source=txet",
         "data.label=subgroup"], "txet"), (["objective=prompted"], "prompted"), (["hardware=gpu"], "gpu"), (["hardware.precision=16-mixed"], "precision"),
         (["hardware.compile=true", "hardware.recompute=true"], "compile"), (["prompts=plain", "data=table", "data.train=rows.csv",
         "data.columns.image=null"], "modalities"), (["augmentation=mixup", "adapter=frozen", "variation.views=2", "init_from=null"], "")]
    )  # fmt: skip
    return "together", ["train", *words], named


def in_command(draws: random.Random) -> Wrong:
    """A command that there is not, or an option."""
    from mmexp.cli import COMMANDS

    wrong = typo(draws, draws.choice(sorted(COMMANDS)))
    if draws.random() < 0.4:
        option = draws.choice(["--mutlirun", "--cofnig-dir", "-q", "--seed=3", "--cfg=jbo"])
        return "option", ["train", option], option.lstrip("-").partition("=")[0][:3]
    return ("command", [wrong], wrong) if wrong not in COMMANDS else in_command(draws)


KINDS: list[Callable[[random.Random], Wrong]] = [
    *(
        in_group,
        in_choice,
        in_choice,
        in_key,
        in_key,
        in_key,
        of_type,
        of_type,
        out_of_range,
        of_syntax,
        missing,
        together,
        in_command,
    )
]


def drawn(count: int, seed: int) -> list[Wrong]:
    """Return so many wrong command lines."""
    draws = random.Random(seed)
    return [KINDS[i % len(KINDS)](draws) for i in range(count)]


def fault(wrong: Wrong) -> str | None:
    """Return what is wrong with the answer to a command line, None for nothing. Runs in an empty folder."""
    from mmexp import cli

    _, words, named = wrong
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("rows.csv").write_text("picture,caption\na.png,word\n")
        # One that were right would train.
        short = [word for word in SHORT if words[0] == "train" and word.partition("=")[0] not in " ".join(words)]
        sys.argv = ["mmexp", *words, *short]
        os.environ["MMEXP_STAMP"] = "now"
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                status: Any = cli.main()
        except BaseException as error:
            status = f"{type(error).__name__}: {error}"
        left = [path.name for path in Path().rglob("*") if path.is_file() and path.name != "rows.csv"]
    told = err.getvalue().strip()
    if status != 2:
        return f"status {status}: {told[-300:]}"
    if "Traceback" in told or len(told.splitlines()) > MOST_LINES or not told:
        return f"{len(told.splitlines())} lines: {told[-300:]}"
    if named.lower() not in told.lower():
        return f"does not name {named!r}: {told}"
    return f"left behind: {left}" if left else None


def main() -> int:
    """Try them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    wrongs = drawn(asked.count, asked.seed)
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn"), max_tasks_per_child=200) as pool:
        found = []
        for wrong, what in zip(wrongs, pool.map(fault, wrongs, chunksize=5), strict=True):
            found.append(what)
            if what:
                print(f"{wrong[0]}: mmexp {' '.join(wrong[1])}\n    {what}", flush=True)
    bad = sum(what is not None for what in found)
    kinds = Counter(kind for kind, *_ in wrongs)
    print(
        f"{len(wrongs)} wrong command lines ({', '.join(f'{n} {kind}' for kind, n in kinds.items())}): {bad} answered badly"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
