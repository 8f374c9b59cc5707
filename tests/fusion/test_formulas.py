"""Each fusion against its formula, written out anew."""

import pytest
import torch
from fusion.made_up import encoded_of, made, some, without
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.fusion.bottleneck import BottleneckFusion
from mmexp.fusion.coattn import CoAttentionFusion
from mmexp.fusion.early import EarlyFusion
from mmexp.fusion.late import LateFusion
from mmexp.fusion.sum import SumFusion
from mmexp.fusion.tensor import TensorFusion

TWO = some(2)


def poolings(fusion, encoded):
    """Return the projected poolings by name, as a fusion's own layers make them."""
    return {name: fusion.project[name](one.pooled) for name, one in encoded.items()}


def with_ones(x):
    return torch.cat([x, torch.ones(len(x), 1)], -1)


@pytest.mark.parametrize("weights", ["learned", "equal"])
def test_late_is_the_mean_of_the_predictions_of_each_modality(weights):
    fusion, encoded, head = LateFusion(TWO, 12, weights), encoded_of(TWO), torch.nn.Linear(12, 5)
    share = torch.tensor([0.5, 0.5])
    if weights == "learned":
        fusion.mean.scores.data.copy_(torch.tensor([0.3, -0.9]))
        share = fusion.mean.scores.detach().softmax(0)
    one = poolings(fusion, encoded)
    predictions = [head(one["image"]), head(one["text"])]
    told = head(fusion(encoded).pooled)
    torch.testing.assert_close(told, share[0] * predictions[0] + share[1] * predictions[1])
    # Its tokens are what each modality says alone, and one that is missing has no say.
    torch.testing.assert_close(head(fusion(encoded).tokens), torch.stack(predictions, 1))
    image = torch.arange(7) < 4
    lacking = without(encoded, {"text": torch.ones(7, dtype=torch.bool), "image": image})
    alone = head(fusion(lacking).pooled)
    torch.testing.assert_close(alone[4:], predictions[1][4:])
    torch.testing.assert_close(alone[:4], told[:4])


def test_late_never_lets_modalities_meet_and_sum_does():
    """What a modality adds to the prediction is the same whatever the other one says, or it is not."""
    encoded, other = encoded_of(TWO), encoded_of(TWO, seed=1)
    for fusion, meets in ((LateFusion(TWO, 12), False), (SumFusion(TWO, 12), True)):
        changes = []
        for text in (encoded["text"], other["text"]):
            changes.append(
                fusion({"text": text, "image": encoded["image"]}).pooled
                - fusion({"text": text, "image": other["image"]}).pooled
            )
        assert torch.allclose(*changes, atol=1e-5) != meets


def test_sum_is_a_weighted_sum_and_a_layer():
    fusion, encoded = made("sum", TWO), encoded_of(TWO)
    fusion.mean.scores.data.copy_(torch.tensor([0.3, -0.9]))
    image, text = (poolings(fusion, encoded)[name] for name in ("image", "text"))
    share = fusion.mean.scores.softmax(0)
    torch.testing.assert_close(fusion(encoded).pooled, fusion.mix(F.gelu(share[0] * image + share[1] * text)))
    torch.testing.assert_close(fusion({"text": encoded["text"]}).pooled, fusion.mix(F.gelu(text)))
    assert not any("scores" in name for name, _ in SumFusion(TWO, 12, "equal").named_parameters())


def test_the_gates_of_two_modalities_are_z_and_1_minus_z():
    fusion, encoded = made("gated", TWO), encoded_of(TWO)
    image, text = (torch.tanh(poolings(fusion, encoded)[name]) for name in ("image", "text"))
    both = torch.cat([encoded["image"].pooled, encoded["text"].pooled], -1)
    weight, bias = fusion.gate.weight.view(12, 2, -1), fusion.gate.bias.view(12, 2)
    z = torch.sigmoid(both @ (weight[:, 0] - weight[:, 1]).T + bias[:, 0] - bias[:, 1])
    torch.testing.assert_close(fusion(encoded).pooled, z * image + (1 - z) * text)
    torch.testing.assert_close(fusion({"text": encoded["text"]}).pooled, text)


@pytest.mark.parametrize("modalities", [2, 3])
def test_tensor_is_the_outer_product_with_an_appended_1(modalities):
    fusion, encoded = made("tensor", some(modalities)), encoded_of(some(modalities))
    one = poolings(fusion, encoded)
    z = [with_ones(one[name]) for name in sorted(one)]
    whole = torch.einsum("bi,bj->bij" if modalities == 2 else "bi,bj,bk->bijk", *z).flatten(1)
    torch.testing.assert_close(fusion(encoded).pooled, fusion.mix(whole))


def test_without_a_modality_the_products_of_the_others_are_left():
    fusion, encoded = made("tensor", TWO), encoded_of(TWO)
    text = with_ones(fusion.project["text"](encoded["text"].pooled))
    # Of the matrix of products, image by text, the row of the image's 1.
    row = fusion.mix.weight.view(12, text.shape[1], text.shape[1])[:, -1]
    torch.testing.assert_close(fusion({"text": encoded["text"]}).pooled, text @ row.T + fusion.mix.bias)


@pytest.mark.parametrize(("modalities", "width"), [(1, 12), (2, 11), (3, 4), (4, 2)])
def test_the_width_of_a_tensor_follows_from_how_many_products_there_may_be(modalities, width):
    dims = {str(i): 5 for i in range(modalities)}
    fusion = TensorFusion(dims, dim=12, products=150)
    assert fusion.project["0"].out_features == width
    assert fusion.mix.in_features == (width + 1) ** modalities <= 150


def test_too_few_products_are_refused():
    with pytest.raises(RequestError, match=r"fusion\.products=7 is too few for 3 modalities\. Set 8 or more"):
        TensorFusion(some(3), 12, products=7)


@pytest.mark.parametrize("modalities", [2, 3])
def test_bilinear_is_a_tensor_of_low_rank(modalities):
    dims = some(modalities)
    fusion, encoded = made("bilinear", dims), encoded_of(dims)
    fusion.weights.data.copy_(torch.tensor([0.5, 1.0, -1.0, 2.0]))
    fusion.bias.data.normal_()
    # The factors (R, D, size + 1), the appended 1 last; their outer products, added up, are the weight tensor.
    factors = [
        torch.cat([layer.weight, layer.bias[:, None]], 1).view(4, 12, -1) for _, layer in sorted(fusion.factors.items())
    ]
    letters = "ijk"[:modalities]
    tensor = torch.einsum(f"r,{','.join(f'rd{x}' for x in letters)}->d{letters}", fusion.weights, *factors)
    z = [with_ones(encoded[name].pooled) for name in sorted(dims)]
    whole = torch.einsum(f"d{letters},{','.join(f'b{x}' for x in letters)}->bd", tensor, *z) + fusion.bias
    torch.testing.assert_close(fusion(encoded).pooled, whole)


def test_early_is_one_transformer_over_all_tokens():
    fusion, encoded = EarlyFusion(TWO, 12, 3, depth=1), encoded_of(TWO)
    block = fusion.blocks[0]
    row, texts = 0, 3  # the first row's text has three tokens of four
    x = torch.cat(
        [
            fusion.project["image"](encoded["image"].tokens[row]),
            fusion.project["text"](encoded["text"].tokens[row, :texts]),
        ]
    )
    q, k, v = block.qkv(block.norm1(x)).view(len(x), 3, 3, 4).permute(1, 2, 0, 3)
    seen = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
    x = x + block.proj(seen.transpose(0, 1).flatten(1))
    x = fusion.norm(x + block.fc2(F.gelu(block.fc1(block.norm2(x)))))
    fused = fusion(encoded)
    torch.testing.assert_close(fused.pooled[row], x.mean(0))
    torch.testing.assert_close(fused.tokens_of("text")[row, :texts], x[3:])


def test_an_affinity_is_read_in_both_directions():
    fusion, encoded = CoAttentionFusion(TWO, 12, heads=1, depth=1, nowhere=2), encoded_of(TWO)
    layer, x, keys, values = fusion.layers[0], {}, {}, {}
    for name, one in encoded.items():
        x[name] = fusion.project[name](one.tokens[1])
        values[name] = torch.cat([layer.norm[name](x[name]), layer.nowhere[name]])
        keys[name] = layer.look[name](values[name])
    affinity = keys["image"] @ keys["text"].T / 12**0.5
    seen = {
        "image": affinity.softmax(1)[:3] @ values["text"],
        "text": affinity.T.softmax(1)[:4] @ values["image"],
    }
    sums = torch.zeros(12)
    for name, tokens in x.items():
        mixed = layer.mix[name](torch.cat([values[name][: len(tokens)], seen[name]], -1))
        enriched = tokens + F.relu(mixed)
        torch.testing.assert_close(fusion(encoded).tokens_of(name)[1], enriched)
        sums = sums + fusion.score[name](enriched).softmax(0).T @ enriched
    torch.testing.assert_close(fusion(encoded).pooled[1], fusion.norm(sums)[0])


def test_all_that_modalities_hear_of_each_other_comes_through_the_bottleneck():
    fusion, encoded, other = BottleneckFusion(TWO, 12, 3, depth=2), encoded_of(TWO), encoded_of(TWO, seed=1)
    changed = {**encoded, "image": other["image"]}
    heard = fusion(encoded).tokens_of("text"), fusion(changed).tokens_of("text")
    assert not torch.allclose(*heard, atol=1e-4)
    # With a first layer that tells the bottlenecks nothing of the picture, the text hears nothing of it.
    for name in ("proj", "fc2"):
        layer = getattr(fusion.blocks[0]["image"], name)
        layer.weight.data.zero_()
        layer.bias.data.zero_()
    torch.testing.assert_close(fusion(encoded).tokens_of("text"), fusion(changed).tokens_of("text"))


def test_a_bottleneck_of_one_layer_is_refused():
    with pytest.raises(RequestError, match=r"fusion\.depth=1: a bottleneck takes two layers"):
        BottleneckFusion(TWO, 12, 3, depth=1)


def test_nodes_hear_each_other_as_in_gatv2():
    fusion, encoded = made("graph", TWO), encoded_of(TWO)
    layer = fusion.layers[0]
    layer.edges.data.normal_()
    nodes = torch.stack([poolings(fusion, encoded)[name] for name in ("image", "text")], 1)
    told, row = layer(nodes, torch.ones(7, 2, dtype=torch.bool))[3], layer.norm(nodes[3])
    hears, says = (x(row).view(2, 3, 4) for x in (layer.hear, layer.say))
    for i in range(2):
        heard = []
        for head in range(3):
            e = [layer.score[head] @ F.leaky_relu(hears[i, head] + says[j, head], 0.2) for j in range(2)]
            share = (torch.stack(e) + layer.edges[head, i]).softmax(0)
            heard.append(share @ says[:, head])
        torch.testing.assert_close(told[i], nodes[3, i] + F.elu(torch.cat(heard)))


def test_dropout_is_of_the_fusions_that_have_it():
    for name in ("early", "coattn", "bilinear", "tensor"):
        fusion, encoded = made(name, TWO), encoded_of(TWO)
        for module in fusion.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        assert not torch.equal(fusion.train()(encoded).pooled, fusion(encoded).pooled)
        assert torch.equal(fusion.eval()(encoded).pooled, fusion(encoded).pooled)
