"""An adapter for each tower, as the command line says it: composed, checked, and told where it is wrong."""

import inspect
import json
from pathlib import Path
from pydoc import locate

import pytest
import yaml

from mmexp.compose import compose, resolved
from mmexp.config import check
from mmexp.errors import RequestError

CONF = Path(__file__).parents[2] / "conf" / "adapter"
LORA = "mmexp.adapters.lora.Lora"
FILE = " (adapter/lora.yaml)."


def composed(*overrides: str, config_dir: str | None = None) -> dict:
    plain, choices = resolved(compose(overrides, config_dir))
    check(plain, choices)
    return plain["adapter"]


@pytest.mark.parametrize("name", sorted(file.stem for file in CONF.glob("*.yaml")))
def test_every_adapter_is_a_choice_for_a_tower_unless_it_is_one_of_the_whole(name):
    whole = composed(
        f"adapter={name}",
        *(["fusion=none", "objective=classify", "objective.classify.source=image"] * (name == "probe")),
    )
    if name in ("probe", "lit"):
        with pytest.raises(RequestError, match="this adapter is one of the whole model"):
            composed(f"adapter/text={name}")
    else:
        assert composed(f"adapter/text={name}")["text"] == whole


@pytest.mark.parametrize("name", sorted(file.stem for file in CONF.glob("*.yaml")))
def test_defaults_of_code_and_yaml_agree(name):
    node = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    parameters = inspect.signature(locate(node.pop("_target_"))).parameters
    assert node == {key: parameters[key].default for key in parameters}


def test_a_tower_has_its_own_and_the_others_that_of_the_run():
    adapter = composed("adapter=lora", "adapter/text=frozen", "adapter.rank=3")
    assert (adapter["_target_"], adapter["rank"]) == (LORA, 3)
    assert adapter["text"] == {"_target_": "mmexp.adapters.frozen.Frozen"}
    adapter = composed("adapter/image=lora", "adapter/fusion=full", "adapter.image.rank=2")
    assert adapter["_target_"].endswith("Full")
    assert (adapter["image"]["_target_"], adapter["image"]["rank"]) == (LORA, 2)


def test_a_tower_of_any_name_has_one():
    adapter = composed("+encoder/text@encoder.title=transformer", "adapter/title=lora")
    assert adapter["title"]["_target_"] == LORA


def test_an_adapter_of_ones_own_is_a_choice_for_towers_too(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "mine.yaml").write_text(f"# mine\n_target_: {LORA}\nrank: 7\n")
    assert composed("adapter/image=mine", config_dir=str(tmp_path))["image"]["rank"] == 7


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapter/image=loar"], "'loar' is not a choice of adapter/image. Did you mean 'lora'?"),
        (["adapter/imag=lora"], "adapter/imag=: this model has no such part. Did you mean 'image'?"),
        (["adapter/fusion=prompt_tuning"], "adapter/fusion=: this adapter is one of towers"),
        (
            ["adapter/image=lora", "adapter.image.rank=0"],
            "'adapter.image.rank' must be a whole number above 0, not 0" + FILE,
        ),
        (
            ["adapter/image=lora", "+adapter.image.rnk=1"],
            "'adapter.image.rnk' is not a key of Lora" + FILE + " Did you mean 'rank'?",
        ),
        (
            ["adapter=lora", "+adapter.rnk=1"],
            "'adapter.rnk' is not a key of Lora" + FILE + " Did you mean 'rank'?",
        ),
        (["adapter=lit", "adapter.locked=imge"], "adapter.locked=imge: there is no such tower. Did you mean 'image'?"),
        (["adapter=lit", "adapter/image=lora"], "adapter/image=: adapter.locked=image freezes this tower"),
        (["adapter=probe"], "adapter=probe: objective 'contrastive' is more than a linear head"),
        (["experiment=probe", "adapter/text=lora"], "adapter=probe rests the whole model. Leave adapter/text= out"),
        (
            ["task=continual", "continual=adapters", "adapter/text=lora"],
            "continual: this method has adapters of its own",
        ),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_what_is_wrong_is_told_in_one_line(overrides, message):
    with pytest.raises(RequestError) as refusal:
        composed(*overrides)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_run_json_tells_what_was_chosen(tmp_path, monkeypatch, capsys):
    from mmexp.cli import main

    short = ("budget.steps=1", "data.batch_size=8", "data.styles=[blob]", "evaluate=false", "cache.enabled=false")
    short = (*short, "fusion=none", "objective=contrastive")
    sweep = ("-m", "adapter/image=lora,frozen", "task=finetune", "sweep.name=mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mmexp", "train", *short, *sweep])
    assert main() == 0
    told = [json.loads((tmp_path / f"outputs/sweeps/mine/{n}/run.json").read_text()) for n in range(2)]
    assert [one["choices"]["adapter/image"] for one in told] == ["lora", "frozen"]
    assert "adapter/text" not in told[0]["choices"]
    assert "adapter/image=lora" in told[0]["overrides"]
    shares = [one["parameters"]["trainable"] for one in told]
    from mmexp.build import restore

    model, _ = restore(tmp_path / "outputs/sweeps/mine/1")
    image = sum(parameter.numel() for parameter in model.encoders["image"].parameters())
    assert shares[1] == told[1]["parameters"]["total"] - image
    # Of rank 8, beside four layers in each of the four blocks.
    assert shares[0] - shares[1] == 4 * 8 * (192 + 3 * 192 + 192 + 192 + 2 * (192 + 4 * 192))
