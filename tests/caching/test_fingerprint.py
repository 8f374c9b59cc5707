"""Whatever changes what a frozen part says changes its fingerprint."""

import torch
from stand_ins import TinyImage, TinyText
from torch import nn

from mmexp.caching.fingerprint import of_module, of_prepared
from mmexp.encoders.transformer import Transformer


def test_a_digest_is_that_of_equal_modules_and_of_no_other():
    torch.manual_seed(0)
    first = TinyImage()
    second = TinyImage()
    assert of_module(first) != of_module(second)
    second.load_state_dict(first.state_dict())
    assert of_module(first) == of_module(second)
    with torch.no_grad():
        next(second.parameters()).view(-1)[-1] += 1e-7
    assert of_module(first) != of_module(second)


def test_settings_that_no_weight_shows_count():
    torch.manual_seed(0)
    three = Transformer(dim=12, depth=1, heads=3)
    four = Transformer(dim=12, depth=1, heads=4)
    four.load_state_dict(three.state_dict())
    assert of_module(three) != of_module(four)
    assert of_module(nn.Dropout(0.1)) != of_module(nn.Dropout(0.2))


def test_what_a_module_counts_and_its_mode_do_not_count():
    encoder = Transformer(dim=12, depth=1, heads=3, context_length=4)
    before = of_module(encoder)
    encoder.prepare(["a text of more than four tokens"])
    assert encoder.cut == 1
    assert of_module(encoder.eval()) == before


def test_prepared_inputs_count_to_the_last_bit():
    text = TinyText().prepare(["abc", "d"])
    again = TinyText().prepare(["abc", "d"])
    assert of_prepared({"text": text}) == of_prepared({"text": again})
    again["ids"][1, 1] += 1
    assert of_prepared({"text": text}) != of_prepared({"text": again})
