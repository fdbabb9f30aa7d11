"""cluster.yaml, as far as it can be checked without machines: by `ray up`'s own reading of it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts import scripts

FILE = Path(__file__).resolve().parents[1] / "cluster.yaml"
NODE_TYPE = "local.cluster.node"


@pytest.fixture
def config() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def prepared(config: dict[str, Any]) -> dict[str, Any]:
    ready: dict[str, Any] = prepare_config(copy.deepcopy(config))
    validate_config(ready)
    return ready


def test_ray_up_accepts_it_with_every_worker(config: dict[str, Any]) -> None:
    ready = prepared(config)
    workers = len(config["provider"]["worker_ips"])
    assert config["min_workers"] == config["max_workers"] == workers
    assert ready["available_node_types"][NODE_TYPE]["min_workers"] == workers
    assert ready["available_node_types"][NODE_TYPE]["max_workers"] == workers
    # Head and workers are set up alike.
    assert ready["head_setup_commands"] == ready["worker_setup_commands"] == config["setup_commands"]


@pytest.mark.parametrize("name", ["setup_comands", "head_start_commands", "min_worker"])
def test_a_typo_is_an_error(name: str, config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match=name):
        prepared(config | {name: []})


def test_a_wrong_type_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="is not of type"):
        prepared(config | {"cluster_name": 5})


def started(config: dict[str, Any], kind: str) -> tuple[dict[str, str], list[str]]:
    """The environment and the arguments of a node's `ray start`."""
    *before, command = config[f"{kind}_start_ray_commands"]
    assert [c.endswith("ray stop") for c in before] == [True]
    exports, _, start = command.partition(";")
    words = start.split()
    assert words[:2] == ["ray", "start"]
    return dict(w.split("=", 1) for w in exports.split()[1:]), words[2:]


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_the_start_commands_are_real_and_closed(kind: str, config: dict[str, Any]) -> None:
    environment, arguments = started(config, kind)
    assert environment["RAY_AUTH_MODE"] == "token"
    assert environment["RAY_AUTH_TOKEN_PATH"] in config["file_mounts"]
    assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
    options = {o for p in scripts.start.params for o in p.opts}
    assert {a.split("=")[0] for a in arguments} <= options
    given = dict(a.lstrip("-").partition("=")[::2] for a in arguments)
    ports = [int(v) for k, v in given.items() if k.endswith("port")]
    assert len(set(ports)) == len(ports)
    assert all(1024 <= port <= 65535 for port in ports)  # what `ray start` takes
    if kind == "head":
        assert given["dashboard-host"] == "127.0.0.1"
        assert given["node-ip-address"] == config["provider"]["head_ip"]
    else:
        assert given["address"] == "$RAY_HEAD_IP:6379"


def test_the_documented_commands_exist() -> None:
    for command in ("up", "down", "exec", "attach", "dashboard", "get-auth-token"):
        assert CliRunner().invoke(scripts.cli, [command, "--help"]).exit_code == 0, command
