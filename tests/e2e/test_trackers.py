"""A run taken to MLflow and Weights & Biases: into a folder, by the real packages where they are there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Done, Home

Cli = Callable[..., Done]
SMALL = Path(__file__).with_name("small.mi")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No connection leaves this machine; what was tried is told."""
    import socket

    tried: list[str] = []
    connect = socket.socket.connect

    def refused(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or str(address[0]) in ("127.0.0.1", "::1", "localhost"):
            return connect(self, address)
        tried.append(str(address))
        raise OSError("this test has no network")

    monkeypatch.setattr(socket.socket, "connect", refused)
    return tried


def test_mlflow(cli: Cli, home: Home, offline: list[str]) -> None:
    mlflow = pytest.importorskip("mlflow")
    cli("run", SMALL, "-p", "rows=3").expect(0)
    (where,) = cli("export", "mlflow", "-o", "kept", "--json").expect(0).json()["files"]
    client = mlflow.MlflowClient(tracking_uri=(home.folder / "kept").as_uri())
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments() if e.name == "small"])
    assert Path(where).name == run.info.run_id and run.info.status == "FINISHED"
    base = cli("sql", "SELECT value FROM small.base", "--json").expect(0).json()[0]["value"]
    assert run.data.metrics == {"small.base": base, "expects.passed": 1.0, "expects.failed": 0.0}
    assert run.data.params == {"rows": "3"} and len(run.data.tags["midsl.model.m"]) == 64
    names = {a.path for a in client.list_artifacts(run.info.run_id, "reports")}
    assert names == {"reports/small.effect.csv", "reports/small.base.csv"}
    assert offline == []


def test_wandb(cli: Cli, home: Home, offline: list[str]) -> None:
    pytest.importorskip("wandb")
    cli("run", SMALL).expect(0)
    (where,) = cli("export", "wandb", "small.base", "-o", "kept", "--json").expect(0).json()["files"]
    (log,) = Path(where).glob("run-*.wandb")
    assert Path(where).name.startswith("offline-run-") and log.stat().st_size > 0
    assert b"small.base" in log.read_bytes() and b"small.effect" not in log.read_bytes()
    assert offline == []


def test_without_the_package(cli: Cli, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("run", SMALL).expect(0)
    for name in ("mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)
        assert "MI0808" in cli("export", name).expect(2).err
        assert cli("export", name, "--sql", "FROM runs").code == 2
