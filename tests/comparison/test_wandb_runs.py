"""Runs read back from W&B, whose Api is a stand-in."""

from types import SimpleNamespace

import pytest

from mmexp.comparison.wandb_runs import read_wandb
from mmexp.errors import RequestError


@pytest.fixture
def api(monkeypatch):
    """Return what the Api answers with, and what it was asked."""
    import wandb

    state = SimpleNamespace(runs=[], asked=[], key=True, error=None)

    class Api:
        def runs(self, path, **_):
            state.asked.append(path)
            if state.error:
                raise state.error
            return iter(state.runs)

    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(wandb, "login", lambda **_: state.key)
    return state


def run(**changed):
    whole = {
        "id": "abc",
        "name": "tiny",
        "job_type": "pretrain",
        "state": "finished",
        "config": {
            "seed": 3,
            "optimizer": {"lr": 0.1},
            "choices": {"encoder": "tiny"},
            "run": {"seed": 3, "fingerprint": "f", "parameters": {"total": 9, "trainable": 9}},
        },
        "summary_metrics": {
            "_runtime": 3,
            "test/loss": 1.5,
            "test/text_to_image_r1": "NaN",
            "val/loss": {"min": 1.25},
            "train/loss": 2.0,
            "trainer/global_step": 7,
            "report": {"_type": "html-file", "path": "x"},
            "retrieved/text to image, test": {"_type": "table-file"},
            "train_seconds": 4.0,
            "status": "completed",
            "budget": {"steps": 8},
        },
    }
    return SimpleNamespace(**(whole | changed))


def test_facts_metrics_and_config_are_put_back(api):
    api.runs = [run(), run(id="page", job_type="comparison")]
    (read,) = read_wandb("wandb:me/mmexp")
    assert api.asked == ["me/mmexp"]
    assert (read.name, read.directory, read.seed, read.history) == ("tiny (abc)", None, 3, [])
    assert read.metrics == {"test/loss": 1.5, "val/loss": 1.25}
    assert read.config == {"seed": 3, "optimizer": {"lr": 0.1}}
    assert read.facts["choices"] == {"encoder": "tiny"}
    assert read.facts["parameters"]["total"] == 9
    assert (read.facts["train_seconds"], read.facts["status"], read.facts["budget"]) == (4.0, "completed", {"steps": 8})
    assert "report" not in read.facts and "_runtime" not in read.facts


def test_a_run_that_was_killed_counts_as_failed(api):
    api.runs = [run(state="crashed", summary_metrics={}), run(state="running", summary_metrics={})]
    assert [one.facts["status"] for one in read_wandb("wandb:mmexp")] == ["failed", "running"]


def test_what_cannot_be_read_is_one_plain_line(api):
    from wandb.errors import AuthenticationError, CommError

    with pytest.raises(RequestError, match="is no project of W&B"):
        read_wandb("wandb:a/b/c")
    with pytest.raises(RequestError, match="there are no runs"):
        read_wandb("wandb:me/empty")
    api.error = CommError("could not find project me/nothing")
    with pytest.raises(RequestError, match=r"^wandb:me/nothing: could not find project"):
        read_wandb("wandb:me/nothing")
    api.error = AuthenticationError("401")
    with pytest.raises(RequestError, match="does not take the key"):
        read_wandb("wandb:me/mmexp")
    api.key = False
    with pytest.raises(RequestError, match=r"W&B wants a key. Set WANDB_API_KEY, or run wandb login"):
        read_wandb("wandb:me/mmexp")
