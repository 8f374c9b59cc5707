"""What `deploy/` says of the server is what the server is."""

import re
from pathlib import Path

import pytest
import yaml

from mmexp.commands import serve
from mmexp.serving.gate import OPEN

DEPLOY = Path(__file__).parents[1] / "deploy"


@pytest.fixture
def parts() -> dict[str, dict]:
    return {part["kind"]: part for part in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}


def test_the_container_is_started_with_words_that_are_understood(parts, tmp_path, monkeypatch):
    entry = re.search(r"ENTRYPOINT \[(.*)\]", (DEPLOY / "Dockerfile").read_text())[1]
    words = re.findall(r'"(.*?)"', entry)
    assert words[:3] == ["mmexp", "serve", "/run"]
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(serve, "_check_free", lambda host, port: None)
    container = parts["Deployment"]["spec"]["template"]["spec"]["containers"][0]
    _, options = serve._asked([str(tmp_path), *words[3:], *container["args"]])
    # From outside it is reached only there.
    assert options["host"] == "0.0.0.0"
    assert [one["containerPort"] for one in container["ports"]] == [options["port"]]
    assert options["workers"] == int(container["resources"]["requests"]["cpu"])
    assert parts["Deployment"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > options["timeout"]
    assert [one["name"] for one in container["env"]] == [serve.KEY]


def test_probes_need_no_key_and_all_parts_mean_the_same_server(parts):
    spec = parts["Deployment"]["spec"]
    container = spec["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in OPEN
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["containerPort"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == parts["Service"]["spec"]["selector"]
    assert parts["Service"]["spec"]["ports"][0]["targetPort"] == container["ports"][0]["containerPort"]
    assert parts["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == parts["Deployment"]["metadata"]["name"]
