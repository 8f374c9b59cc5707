"""What a target accepts is read from source text, its base's too where it has no constructor of its own."""

import sys

from mmexp.signatures import signature


def test_a_class_accepts_what_its_base_does(tmp_path, monkeypatch):
    (tmp_path / "someones_part.py").write_text(
        "raise ImportError\n"
        "from mmexp.adapters.lora import Lora\n"
        "from torch import nn\n"
        "class Base:\n    needs = ('labels',)\n    def __init__(self, width: int): ...\n"
        "class Own(Base):\n    tall = True\n"
        "class Theirs(Lora):\n    pass\n"
        "class Layer(nn.Linear):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = signature("someones_part.Own")
    assert own.parameters == {"width": "int"} and own.needs == ("labels",) and own.constants["tall"]
    assert "rank" in signature("someones_part.Theirs").parameters and not signature("someones_part.Theirs").open_ended
    assert signature("someones_part.Layer").open_ended
    assert "someones_part" not in sys.modules
