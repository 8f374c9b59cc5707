"""What loggers are given, and what they refuse."""

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from mmexp.errors import RequestError
from mmexp.training.loggers import RunFacts, conclude, wandb


@pytest.mark.parametrize("tag", ["", "x" * 65])
def test_a_tag_that_wandb_does_not_take_is_refused(tmp_path, tag):
    run = RunFacts(tmp_path, "run", None, {}, {"resume": None})
    with pytest.raises(RequestError, match=r"logger.wandb.tags: .* 1 to 64 characters"):
        wandb(run, tags=[tag])


def test_tensorboard_has_hyperparameters_with_the_final_numbers(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="tensorboard", version="")
    facts = {"choices": {"fusion": "concat"}, "overrides": ["optimizer.lr=0.01"], "seed": 3}
    conclude([logger], tmp_path, {"test/loss": 1.5}, None, facts)
    logger.finalize("success")
    written = b"".join(file.read_bytes() for file in (tmp_path / "tensorboard").glob("events*"))
    for word in (b"_hparams_/session_start_info", b"optimizer.lr", b"concat", b"test/loss"):
        assert word in written
