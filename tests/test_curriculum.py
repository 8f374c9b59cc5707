"""Values that change in the course of a run."""

import pytest
import torch
from stand_ins import TinyImage, TinyText, batch_of

from mmexp.curriculum import current
from mmexp.fusion.none import NoFusion
from mmexp.model import Model
from mmexp.objectives.masked import Masked
from mmexp.tasks.views import StepViews


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("linear", {0.0: 1.0, 0.2: 1.0, 0.3: 1.5, 0.4: 2.0, 0.6: 3.0, 1.0: 3.0}),
        ("cosine", {0.0: 1.0, 0.3: 2 - 0.5**0.5, 0.4: 2.0, 0.5: 2 + 0.5**0.5, 0.6: 3.0, 1.0: 3.0}),
        ("step", {0.0: 1.0, 0.4: 1.0, 0.59: 1.0, 0.6: 3.0, 1.0: 3.0}),
    ],
)
def test_a_curriculum_goes_from_one_value_to_another(shape, values):
    curriculum = {"from": 1.0, "to": 3.0, "start": 0.2, "end": 0.6, "shape": shape}
    assert {at: current(curriculum, at) for at in values} == pytest.approx(values)


def test_a_number_stays_and_a_curriculum_takes_the_whole_run():
    assert current(0.3, 0.9) == 0.3
    assert current({"from": 1.0, "to": 0.0}, 0.25) == pytest.approx(0.75)


def test_masking_may_begin_with_nothing_hidden():
    torch.manual_seed(0)
    model = Model({"image": TinyImage(), "text": TinyText()}, NoFusion({"image": 16, "text": 12}))
    grows = {"from": 0.0, "to": 0.5}
    objective = Masked(model.shape(), words=grows, patches=grows)
    at = {share: StepViews(model, batch_of(), 0, 0, lambda t: t, progress=share) for share in (0.0, 1.0)}
    fixed = Masked(model.shape(), words=0.5, patches=0.5)
    fixed.load_state_dict(objective.state_dict())
    assert {name: loss.item() for name, loss in objective(at[0.0]).losses.items()} == {
        "masked_words": 0.0,
        "masked_patches": 0.0,
    }
    for name, loss in fixed(at[0.0]).losses.items():
        assert objective(at[1.0]).losses[name].item() == loss.item() > 0
