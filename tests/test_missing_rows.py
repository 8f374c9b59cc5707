"""A model and a step whose rows lack modalities: nothing is encoded of them, and nothing is left in what was kept."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, views_of
from torch import nn

from mmexp.fusion.concat import ConcatFusion
from mmexp.model import Model, encode_present
from mmexp.objectives.caption import Caption
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.tasks.balancing import StepLosses
from mmexp.tasks.captions import NONE, write_captions
from mmexp.teacher import Teacher
from mmexp.types import Encoded

DIMS = {"image": 16, "text": 12}


class Normed(TinyImage):
    """Pictures through a batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(16)

    def forward(self, prepared):
        encoded = super().forward(prepared)
        return Encoded(encoded.tokens, self.norm(encoded.pooled), encoded.mask)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Model({"image": TinyImage(), "text": TinyText()}, ConcatFusion(DIMS, dim=8, hidden=8))


def lacking(**rows: list[int]) -> dict:
    present = {name: ~torch.isin(torch.arange(8), torch.tensor(gone)) for name, gone in rows.items()}
    return {**batch_of(), "present": present}


def test_rows_that_are_there_are_encoded_as_if_alone(model):
    batch = lacking(text=[1, 6])
    encoded, there = model.encode(batch), batch["present"]["text"]
    assert encoded["image"].present is None
    alone = model.encoders["text"]({name: tensor[there] for name, tensor in batch["text"].items()})
    text = encoded["text"]
    assert torch.equal(text.present, there)
    torch.testing.assert_close(text.tokens[there], alone.tokens)
    torch.testing.assert_close(text.pooled[there], alone.pooled)
    assert not text.tokens[~there].any() and not text.pooled[~there].any() and not text.mask[~there].any()


def test_running_statistics_learn_nothing_of_blanks():
    batch, encoders = lacking(image=[0, 3]), [Normed(), Normed()]
    encoders[1].load_state_dict(encoders[0].state_dict())
    there = batch["present"]["image"]
    encode_present(encoders[0], batch["image"], there)
    encoders[1]({"pixels": batch["image"]["pixels"][there]})
    torch.testing.assert_close(encoders[0].norm.running_var, encoders[1].norm.running_var)
    before = encoders[0].norm.running_mean.clone()
    nobody = encode_present(encoders[0], batch["image"], torch.zeros(8, dtype=torch.bool))
    assert torch.equal(encoders[0].norm.running_mean, before)
    assert nobody.pooled.shape == (8, 16) and not nobody.pooled.any() and not nobody.mask.any()


@pytest.mark.parametrize("tokens", [True, False])
def test_what_was_kept_is_emptied_too(model, tokens):
    batch = lacking(image=[2])
    live = model.encode(batch)["image"]
    whole = model.encoders["image"](batch["image"])
    kept = {"pooled": whole.pooled, **({"tokens": whole.tokens, "mask": whole.mask} if tokens else {})}
    found = model.encode({**batch, "encoded": {"image": kept}})["image"]
    torch.testing.assert_close(found.pooled, live.pooled)
    assert torch.equal(found.there(), live.there())
    if tokens:
        torch.testing.assert_close(found.tokens, live.tokens)
        assert torch.equal(found.mask, live.mask)


def test_a_loss_of_no_row_has_no_gradient_on_what_is_shared(model):
    batch = lacking(image=list(range(8)))
    objectives = [Classify(model.shape(3)), Contrastive(model.shape())]
    losses = {name: loss for o in objectives for name, loss in o(views_of(model, batch)).losses.items()}
    losses["constant"] = torch.zeros(())
    shared = list(model.parameters())
    step = StepLosses(losses, dict.fromkeys(losses, 1.0), torch.Generator(), lambda: shared, lambda tensor: tensor)
    gradients = dict(zip(step.names, step.gradients, strict=True))
    assert gradients["classify"].any()
    assert not gradients["contrastive"].any() and not gradients["constant"].any()


def test_only_rows_with_picture_and_text_are_captioned(model):
    batch, writer = lacking(image=[1], text=[4]), Caption(model.shape(), dim=12)
    found = write_captions(writer.eval(), views_of(model, batch), torch.tensor([0, 1, 4, 5]))
    assert (found["caption"][:, 0] != NONE).nonzero().flatten().tolist() == [0, 5]
    assert (found["caption_tokens"] == 0).nonzero().flatten().tolist() == [1, 4]
    plain = {name: part for name, part in batch.items() if name != "present"}
    alone = write_captions(writer, views_of(model, plain), torch.tensor([0, 5]))
    assert torch.equal(found["caption"][[0, 5]], alone["caption"][[0, 5]])
    rest = [0, 2, 3, 5, 6, 7]
    torch.testing.assert_close(found["caption_nll"][rest], alone["caption_nll"][rest])


def test_a_teacher_says_nothing_of_what_it_does_not_see(model):
    batch = lacking(image=[1, 3])
    seeing = {"classify": Classify(model.shape(3), source="image"), "caption": Caption(model.shape(), dim=12)}
    outputs = Teacher(model, seeing, ["logits", "captions", "pooled"]).eval()(
        {n: batch[n] for n in (*DIMS, "present", "index")}
    )
    assert outputs["logits"].isnan().any(1).nonzero().flatten().tolist() == [1, 3]
    assert not outputs["captions/mask"][[1, 3]].any() and outputs["captions/mask"][0].any()
    assert not outputs["pooled/image"][1].any()
    fused = Teacher(model, {"classify": Classify(model.shape(3))}, ["logits"])
    assert not fused({n: batch[n] for n in (*DIMS, "present")})["logits"].isnan().any()
