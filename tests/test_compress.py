"""`mmexp compress`: what is taken away is what says least, and each stage is a run that others go on from."""

import copy
import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from mmexp import build
from mmexp.compression import calibrating, packing, pruning, quantizing, shapes
from mmexp.encoders.timm_image import TimmImage
from mmexp.encoders.transformer import Transformer
from mmexp.runs.parents import digest
from mmexp.weights import read_quantization

RUN = (
    "fusion=none",
    "objective=contrastive",
    "encoder.text.depth=1",
    "encoder.image.options.depth=2",
    "hardware.threads=1",
)
RUN += ("data.styles=[blob]", "data.batch_size=32", "data.num_workers=0", "budget.steps=6", "evaluate=false")


def towers() -> dict[str, tuple[nn.Module, dict]]:
    torch.manual_seed(0)
    options = {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    picture = TimmImage("vit_tiny_patch16_224", image_size=32, options=options)
    cnn = TimmImage("resnet18", image_size=32, options={"channels": (16, 32, 48, 64), "stem_width": 16})
    words = Transformer(dim=48, depth=2, heads=3)
    pixels = {"pixels": torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)}
    texts = words.prepare(["a small red thing", "blue"])
    return {"vit": (picture.eval(), pixels), "resnet": (cnn.eval(), pixels), "words": (words.eval(), texts)}


def inside(tower: nn.Module) -> int:
    return sum(p.numel() for n, p in tower.named_parameters() if "embed" not in n)


@pytest.mark.parametrize("name", ["vit", "resnet", "words"])
def test_a_pruned_tower_is_smaller_and_another_is_made_as_wide(name):
    tower, rows = towers()[name]
    whole, before = copy.deepcopy(tower), inside(tower)
    pruning.prune(tower, rows, 0.5)
    assert inside(tower) < 0.7 * before
    shapes.fit(whole, tower.state_dict())
    whole.load_state_dict(tower.state_dict())
    torch.testing.assert_close(whole(rows).pooled, tower(rows).pooled)
    whole(rows).pooled.sum().backward()


@pytest.mark.parametrize("name", ["vit", "words"])
def test_what_says_nothing_is_taken_first(name):
    tower, rows = towers()[name]
    for block in (layer for layer in tower.modules() if hasattr(layer, "qkv") and hasattr(layer, "proj")):
        width = block.qkv.out_features // 9
        gone = torch.arange(9 * width).view(9, width)[:, ::2].flatten()
        with torch.no_grad():
            block.qkv.weight[gone] = 0
            block.qkv.bias[gone] = 0
    for layer in tower.modules():
        if hasattr(layer, "fc1"):
            with torch.no_grad():
                layer.fc1.weight[::2], layer.fc1.bias[::2], layer.fc2.weight[:, ::2] = 0, 0, 0
    before = tower(rows).pooled
    pruning.prune(tower, rows, 0.5)
    torch.testing.assert_close(tower(rows).pooled, before, atol=1e-5, rtol=1e-4)


def test_a_factorised_layer_is_the_nearest_of_its_rank():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(40, 30))
    layer[0].weight.data = torch.randn(30, 4) @ torch.randn(4, 40)
    rows, whole = torch.randn(5, 40), copy.deepcopy(layer)
    before = layer(rows)
    assert shapes.factorise(layer, 0.5) == 1 and layer[0][0].weight.shape == (8, 40)
    torch.testing.assert_close(layer(rows), before, atol=1e-4, rtol=1e-4)
    shapes.fit(whole, layer.state_dict())
    whole.load_state_dict(layer.state_dict())
    torch.testing.assert_close(whole(rows), before, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("how", "part", "steps"), [("int8", 0.27, 127), ("int8_weights", 0.27, 127), ("int4_weights", 0.18, 7)]
)
def test_packed_weights_are_small_and_near(how, part, steps):
    torch.manual_seed(0)
    weights = {"a.weight": torch.randn(64, 96), "conv.weight": torch.randn(8, 4, 3, 3), "a.bias": torch.randn(64)}
    weights |= {"positions": torch.randn(1, 50, 32), "count": torch.tensor(3)}
    small = packing.packed(weights, how)
    assert packing.size(small) < part * packing.size(weights) + 64 * 4
    again = packing.unpacked(small)
    assert again.keys() == weights.keys()
    assert all(again[name].shape == tensor.shape for name, tensor in weights.items())
    most = weights["a.weight"].abs().max()
    assert (again["a.weight"] - weights["a.weight"]).abs().max() <= most / steps * 0.51
    twice = packing.unpacked(packing.packed(again, how))
    torch.testing.assert_close(twice["a.weight"], again["a.weight"], atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("how", ["int8", "int8_weights", "int4_weights"])
def test_small_integers_say_nearly_the_same(how):
    tower, rows = towers()["words"]
    before = tower(rows).pooled
    quantizing.quantize(tower, how)
    assert nn.functional.cosine_similarity(tower(rows).pooled, before).min() > (0.9 if how == "int4_weights" else 0.998)


def test_ranges_are_those_that_were_seen_and_layers_that_were_not_chosen_stay():
    tower, rows = towers()["words"]
    before, layers = tower(rows).pooled, quantizing.linear_layers(tower)
    ranges = calibrating.calibrate(tower, lambda: tower(rows))
    assert set(ranges) == set(layers)
    seen = []
    name = next(iter(layers))
    handle = layers[name].register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    assert torch.equal(tower(rows).pooled, before)
    handle.remove()
    for values, (scale, zero) in zip(seen[0], ranges[name].view(2, 2).tolist(), strict=True):
        # 7 bits, so that sums of products fit on every CPU; the range may leave out a few values at its ends.
        assert -zero * scale == pytest.approx(values.min().item(), abs=0.2 * values.abs().max().item())
        assert (127 - zero) * scale == pytest.approx(values.max().item(), abs=0.2 * values.abs().max().item())
    chosen = {one: ranges[one] for one in list(ranges)[1:]}
    quantizing.quantize(tower, "int8_static", chosen)
    assert type(tower.get_submodule(name)) is nn.Linear and len(quantizing.linear_layers(tower)) == 1
    assert nn.functional.cosine_similarity(tower(rows).pooled, before).min() > 0.99


def test_the_layer_that_integers_harm_most_is_the_most_sensitive():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32))
    with torch.no_grad():
        # One weight as large as a thousand others leaves a row's steps too wide for them.
        model[1].weight[:, 0] = 50.0
        model[1].weight[:, 1:] *= 0.1
    inputs = torch.randn(64, 32)
    before = model(inputs)
    found = calibrating.sensitivities(model, lambda: {"pooled/x": model(inputs).detach()})
    assert torch.equal(model(inputs), before) and max(found, key=found.get) == "1"
    assert set(calibrating.robust(found, 0.3)) == {"0", "2"} and len(calibrating.robust(found, 0.1)) == 2
    # Each was measured alone.
    again = calibrating.sensitivities(model, lambda: {"pooled/x": model(inputs).detach()})
    assert again == pytest.approx(found)


@pytest.mark.parametrize("how", ["int8_static", "int8_mixed"])
def test_layers_are_chosen_from_rows_of_train_and_chosen_again_when_it_is_loaded(mmexp, how):
    assert mmexp("train", *RUN, "hydra.run.dir=run")[0] == 0
    status, _, err = mmexp("compress", "run", f"quantize={how}", "out=small")
    assert status == 0, err
    whole, small = json.loads(Path("small/compression.json").read_text())
    assert small["megabytes"] < 0.5 * whole["megabytes"]
    chosen = read_quantization(Path(f"small/{how}/checkpoints/best.ckpt"))
    model, _ = build.restore(Path("small") / how)
    computing = [name for name, layer in model.named_modules() if "quantized" in type(layer).__module__]
    assert {re.sub(r"\.(module|quant|dequant|_packed_params)\b.*", "", name) for name in computing} == set(chosen)
    assert bool(quantizing.linear_layers(model)) == (how == "int8_mixed")
    asked = ("train=false", "init_from=run", f"compression.quantize={how}", "hardware.precision=32-true")
    status, _, err = mmexp("train", *RUN, *asked, "hydra.run.dir=no")
    assert status == 2 and f"mmexp compress RUN quantize={how}" in err


def test_zeros_stay_zero():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(20, 20))
    pruning.zero(layer, 0.5)
    gone = layer[0].weight == 0
    assert gone.float().mean() == pytest.approx(0.5, abs=0.01)
    pruning.keep_zeros(layer)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
    for _ in range(3):
        layer(torch.randn(4, 20)).square().sum().backward()
        optimizer.step()
    assert (layer[0].weight[gone] == 0).all() and (layer[0].weight[~gone] != 0).all()


def test_stages_are_runs_with_parents_and_a_table(mmexp):
    assert mmexp("train", *RUN, "hydra.run.dir=run")[0] == 0
    asked = ("prune=0.5", "rounds=2", "recover=3", "quantize=int8", "out=small")
    status, out, err = mmexp("compress", "run", *asked)
    assert status == 0, err
    rows = json.loads(Path("small/compression.json").read_text())
    assert [row["stage"] for row in rows] == ["run", "prune-1", "recover-1", "prune-2", "recover-2", "int8"]
    parameters = [row["weights"] for row in rows]
    assert parameters[0] > parameters[1] == parameters[2] > parameters[3] == parameters[4] == parameters[5]
    assert rows[-1]["megabytes"] < 0.3 * rows[-2]["megabytes"] and rows[-1]["rows_per_second"] > 0
    record = json.loads(Path("small/int8/run.json").read_text())
    assert record["parents"][0]["weights"] == digest(Path("small/recover-2"))
    # What was made is a run: it is measured again, served, exported and gone on from.
    status, _, err = mmexp("evaluate", "small/int8")
    assert status == 0, err
    again = json.loads(Path("outputs/evaluations/now-0-int8/metrics.json").read_text())
    measured = json.loads(Path("small/int8/metrics.json").read_text())
    assert again["test/mean_reciprocal_rank"] == pytest.approx(measured["test/mean_reciprocal_rank"], abs=1e-4)
    status, _, err = mmexp("export", "small/recover-2", "--format", "torch", "--out", "out")
    assert status == 0, err
    status, out, err = mmexp("lineage", "small")
    assert status == 0 and "prune-2" in out, err
    model, _ = build.restore(Path("small/int8"))
    assert any("quantized" in type(layer).__module__ for layer in model.modules())


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("compression.quantize=int8",), "small integers are not trained"),
        (
            ("compression.quantize=int8", "train=false", "init_from=run", "hardware.precision=bf16-mixed"),
            "precision=32-true",
        ),
        (("compression.quantize=int9",), "int8"),
        (("compression.shapes=mine",), "loaded"),
    ],
)
def test_settings_that_cannot_be_are_refused(mmexp, more, told):
    assert mmexp("train", *RUN, "hydra.run.dir=run")[0] == 0
    status, _, err = mmexp("train", *RUN, "hydra.run.dir=other", *more)
    assert status == 2 and told in err


@pytest.mark.parametrize("step", ["low_rank=0.5", "zeros=0.5"])
def test_other_steps_and_training_that_knows_of_integers(mmexp, step):
    assert mmexp("train", *RUN, "hydra.run.dir=run")[0] == 0
    aware = "compression.aware=true"
    status, _, err = mmexp("compress", "run", step, "recover=2", "quantize=int8_weights", "out=small", aware)
    assert status == 0, err
    rows = json.loads(Path("small/compression.json").read_text())
    assert len(rows) == 4
    if step.startswith("zeros"):
        model, _ = build.restore(Path("small/recover-1"))
        weights = [p for n, p in model.named_parameters() if n.endswith("weight") and p.ndim == 2 and "embed" not in n]
        assert sum((w == 0).sum() for w in weights) > 0.3 * sum(w.numel() for w in weights)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name one run"),
        (("nowhere", "prune=0.5"), "not a run directory"),
        (("run",), "nothing was asked for"),
        (("run", "prune=2"), "a share between 0 and 1"),
        (("run", "prune=x"), "a share between 0 and 1"),
        (("run", "quantize=int9"), "int8"),
        (("run", "quantize=int8", "sensitive=0.2"), "quantize=int8_mixed"),
        (("run", "prune=0.5", "rounds=0"), "rounds=0"),
    ],
)
def test_wrong_requests_are_one_line(mmexp, tmp_path, words, told):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text('{"overrides": []}')
    status, _, err = mmexp("compress", *words)
    assert status == 2 and told in err and len(err.splitlines()) == 1
