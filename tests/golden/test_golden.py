"""Loss curves of a tiny model under each objective: what changes the mathematics shows here.

python tests/golden/test_golden.py     # writes the curves anew, after a change that was meant
"""

import json
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of, sounds_of, tiny_audio, views_of

from mmexp.fusion.xattn import CrossAttentionFusion
from mmexp.model import Model
from mmexp.objectives.autoencoder import Autoencoder
from mmexp.objectives.bag_of_words import BagOfWords
from mmexp.objectives.caption import Caption
from mmexp.objectives.classify import Classify
from mmexp.objectives.contrastive import Contrastive
from mmexp.objectives.cross_masked import CrossMasked
from mmexp.objectives.distill import Distill
from mmexp.objectives.fixmatch import FixMatch
from mmexp.objectives.mae import Mae
from mmexp.objectives.margin import Margin
from mmexp.objectives.masked import Masked
from mmexp.objectives.masked_audio import MaskedAudio
from mmexp.objectives.matching import Matching
from mmexp.objectives.multilabel import Multilabel
from mmexp.objectives.prefix_lm import PrefixLM
from mmexp.objectives.regress import Regress
from mmexp.objectives.siglip import SigLip
from mmexp.objectives.supcon import SupCon
from mmexp.objectives.triplet import Triplet
from mmexp.shapes import Supervision, TeacherShape
from mmexp.training.groups import parameter_groups
from mmexp.training.optimizer import adamw, cosine

FILE = Path(__file__).with_name("losses.json")
STEPS = 12
OBJECTIVES = {
    "contrastive": Contrastive,
    "matching": Matching,
    "masked": Masked,
    "classify": Classify,
    "bag_of_words": BagOfWords,
    "distill": Distill,
    "siglip": SigLip,
    "triplet": Triplet,
    "margin": Margin,
    "supcon": SupCon,
    "multilabel": Multilabel,
    "regress": Regress,
    "fixmatch": partial(FixMatch, threshold=0.3),
    "mae": partial(Mae, dim=12),
    "cross_masked": CrossMasked,
    "masked_in_spans_and_blocks": partial(Masked, word_masks="spans", patch_masks="blocks"),
    "masked_adaptively": partial(Masked, words={"from": 0.2, "to": 0.8, "end": 0.2}, adaptive=True),
    "masked_audio": MaskedAudio,
    "autoencoder": Autoencoder,
    "caption": partial(Caption, dim=12),
    "prefix_lm": partial(PrefixLM, dim=12),
}
HEARING = {"masked_audio", "autoencoder"}


def taught(batch):
    """Return fixed unit vectors for each row."""
    generator = torch.Generator().manual_seed(7)
    vectors = torch.randn(2, len(batch["index"]), 5, generator=generator)
    image, text = torch.nn.functional.normalize(vectors, dim=-1)
    return {"vectors/image": image, "vectors/text": text}


def added(losses):
    """Return the plain sum of an objective's losses."""
    return sum(losses.values())


def batch_for(name: str, step: int):
    """Return one of three batches; for semi-supervision every second row is without its label."""
    batch = batch_of(seed=step % 3)
    if name == "fixmatch":
        batch["label"][::2] = -1
    if name in HEARING:
        batch["audio"] = sounds_of(seed=step % 3)
    return batch


def curve(name: str, one=added) -> list[float]:
    """Return the loss of each step; `one` makes an objective's losses into it."""
    torch.manual_seed(0)
    encoders, dims = {"image": TinyImage(), "text": TinyText()}, {"image": 16, "text": 12}
    if name in HEARING:
        encoders, dims = {**encoders, "audio": tiny_audio()}, {**dims, "audio": 12}
    model = Model(encoders, CrossAttentionFusion(dims, 12, 3))
    numbers = Supervision(mean=5.0, deviation=2.0)
    objective = OBJECTIVES[name](model.shape(3, TeacherShape({"vectors/image": 5, "vectors/text": 5}), numbers))
    optimizer = adamw(parameter_groups(torch.nn.ModuleList([model, objective])), lr=3e-3)
    schedule = cosine(optimizer, STEPS, warmup_steps=2)
    losses = []
    for step in range(STEPS):
        loss = one(objective(views_of(model, batch_for(name, step), taught, step)).losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(round(loss.item(), 6))
    return losses


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_curve_is_as_it_was(name):
    assert curve(name) == pytest.approx(json.loads(FILE.read_text())[name], rel=1e-3)


if __name__ == "__main__":
    FILE.write_text(json.dumps({name: curve(name) for name in OBJECTIVES}, indent=1) + "\n")
