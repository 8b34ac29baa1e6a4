"""The notebook of a hunt runs from its first cell to its last against a served installation, through the client alone."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from pathlib import Path

import pytest
import uvicorn
from serve_world import TENANT

from vedette.client import Analyst, Frame
from vedette.core.clock import MICROS, to_iso
from vedette.core.errors import DataError, DefinitionError, DeniedError, TransientError
from vedette.core.signal import Level
from vedette.prove.access.policy import Level as Reach

NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "response" / "hunt.ipynb"
HOST = "WS-17"


def store(world):
    """A mail program that begins a document, and the document a shell."""
    names = ["outlook.exe", "WINWORD.EXE", "powershell.exe"]
    source = world.platform.sources["windows"]
    now = world.platform.clock.now()
    for number, name in enumerate(names):
        data = {
            "EventID": 1,
            "Channel": "Microsoft-Windows-Sysmon/Operational",
            "Computer": HOST,
            "UtcTime": to_iso(now + number * MICROS),
            "ProcessGuid": f"P-{number}",
            "ProcessId": str(100 + number),
            "Image": f"C:\\{name}",
            "CommandLine": name,
            "ParentProcessGuid": f"P-{number - 1}",
            "ParentImage": f"C:\\{names[number - 1]}" if number else "C:\\explorer.exe",
        }
        event = source.to_event(data, tenant=TENANT, stream="n", offset=number, ingest_time=now + 60 * MICROS)
        world.platform.store.append(source, [event])


@pytest.fixture(scope="module")
def url(world):
    """The application on a port, for as long as the module's tests run."""
    server = uvicorn.Server(uvicorn.Config(world.app, port=0, lifespan="off", log_config=None, ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name="notebook")
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def key(world):
    return world.key({"query": Reach.WRITE, "events": Reach.READ, "cases": Reach.READ})


def run(notebook):
    """Executes the code cells in order, in one namespace."""
    names = {"__name__": "notebook"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {cell['id']}", "exec"), names)
    return names


def test_the_notebook_runs(world, url, key, monkeypatch, capsys):
    store(world)
    case = world.platform.cases.open(TENANT, "A hunt", operator="system", level=Level.LOW).id
    environ = {"VEDETTE_URL": url, "VEDETTE_KEY": key, "VEDETTE_HUNT_HOST": HOST, "VEDETTE_HUNT_CASE": case}
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    names = run(json.loads(NOTEBOOK.read_text()))
    assert [row["command"] for row in names["hits"]] == ["powershell.exe"]
    assert "explorer.exe (never seen)" in capsys.readouterr().out
    assert (names["again"]["then"], names["again"]["same"]) == ("same", True)
    assert names["images"].plot("image", "count").svg.count("<rect") == 3
    assert "<td>WINWORD.EXE</td>" in names["starts"]._repr_html_()
    assert names["starts"].to_arrow().num_rows == 3
    assert [step["id"] for step in names["analyst"].steps(case)] == [names["step"]["id"]]


def test_the_notebook_holds_no_output():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells)


def test_what_is_refused_is_told(world, url, key):
    with pytest.raises(DataError, match="exactly one SELECT"):
        Analyst(url, key).sql("drop table x")
    with pytest.raises(DeniedError):
        Analyst(url, "vk_test_none").sql("select 1 as one")
    with pytest.raises(TransientError):
        Analyst("http://127.0.0.1:1", key).sql("select 1 as one")
    with pytest.raises(DefinitionError):
        Analyst("nowhere", key)


def test_what_a_record_holds_is_only_text():
    frame = Frame(("a", "b"), [{"a": "<script>", "b": float("-1")}, {"a": "x" * 99}])
    assert "<script>" not in frame._repr_html_()
    assert "<script>" not in frame.plot("a", "b").svg
