"""The whole catalogue: complete, described, with scenarios, and the same everywhere."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.simulator.faults import SCENARIOS, struck, under
from tests.simulator.platform_client import Client
from topsync.simulator import scenario
from topsync.simulator.faults import catalogue
from topsync.simulator.faults.base import METHODS, CallFault, Fault, MessageFault, Passing, Selective
from topsync.simulator.faults.catalogue import FAULTS
from topsync.simulator.faults.exports import TaskFault
from topsync.simulator.scenario import ScenarioError
from topsync.simulator.settings import SimulatorSettings

PAGE = Path(__file__).parents[2] / "docs" / "simulator.md"
_TESTS = ("calls", "answers", "exports", "channel")
_BASES = {Passing, Selective, CallFault, MessageFault, TaskFault}


def kinds(base: type[Fault]) -> Iterator[type[Fault]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


def test_every_class_of_a_fault_is_in_the_catalogue() -> None:
    assert set(kinds(Fault)) - _BASES == set(FAULTS.values())


def test_every_fault_has_a_test_and_a_scenario_of_its_name() -> None:
    modules = [importlib.import_module(f"tests.simulator.test_faults_{name}") for name in _TESTS]
    tested = {name for name in FAULTS if any(hasattr(module, f"test_{name}") for module in modules)}
    assert tested == set(FAULTS)
    assert {path.stem for path in SCENARIOS.glob("*.toml")} == {*FAULTS, "outage"}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_says_what_it_is_and_what_to_do(name: str) -> None:
    fault = FAULTS[name]
    assert fault.meaning().endswith(".")
    assert len(fault.client_must) > 15
    assert ".md " in fault.reference
    assert all(each.meaning for each in catalogue.parameters(fault))


@pytest.mark.parametrize("name", FAULTS)
def test_each_scenario_holds_its_fault(name: str) -> None:
    plan = scenario.load(SCENARIOS / f"{name}.toml")
    assert [fault.name for fault in plan.faults] == [name]


def test_the_page_holds_the_catalogue_as_it_is() -> None:
    assert catalogue.page() in PAGE.read_text(), "run: python -m topsync.simulator.faults.catalogue"


def test_the_page_holds_the_outage_as_it_is() -> None:
    assert (SCENARIOS / "outage.toml").read_text() in PAGE.read_text()


async def test_every_method_of_the_gateway_can_be_struck(client: Client) -> None:
    for method in METHODS:
        assert await client.send(client.signed(method))  # none is unknown
    gateway = (await client.admin("GET", "/ledger"))["gateway"]["apis"]
    assert set(gateway) == METHODS


async def test_a_fault_can_be_planned_listed_and_lifted(client: Client) -> None:
    planned = await client.admin("POST", "/faults/isp_error", {"after_seconds": 10, "seconds": 5})
    assert planned["until"] == "2025-11-20 15:30:15"
    await client.call("taobao.time.get")
    client.simulator.clock.advance(10)
    await client.refused("taobao.time.get")
    [listed] = (await client.admin("GET", "/faults"))["struck"]
    assert (listed["fault"], listed["struck"], listed["ended"]) == ("isp_error", 1, False)
    assert await client.admin("DELETE", f"/faults/{planned['number']}") == {"lifted": 1}
    await client.call("taobao.time.get")
    await client.admin("DELETE", f"/faults/{planned['number']}", status=404)


async def test_spare_and_times_pick_the_calls_between(client: Client) -> None:
    await client.admin("POST", "/faults/isp_error", {"spare": 2, "times": 3})
    answers = [await client.send(client.signed("taobao.time.get")) for _ in range(8)]
    assert ["error_response" in answer for answer in answers] == [False] * 2 + [True] * 3 + [False] * 3
    assert await struck(client, "isp_error") == 3


async def test_the_ledger_has_calls_by_api_and_second(client: Client) -> None:
    await client.call("taobao.time.get")
    await client.call("taobao.time.get")
    client.simulator.clock.advance(1)
    await client.call("taobao.time.get")
    apis = (await client.admin("GET", "/ledger"))["gateway"]["apis"]
    assert apis["taobao.time.get"]["per_second"] == {"2025-11-20 15:30:00": 2, "2025-11-20 15:30:01": 1}


async def test_an_outage_of_several_faults_unfolds_by_the_clock() -> None:
    async with under("outage") as client:
        assert client.simulator.settings.quirks.business_code == 50
        assert client.simulator.world.visibility_delay_seconds == 60
        channel = client.simulator.channel
        assert channel.ledger()["cut"] == 0
        client.simulator.clock.advance(60)
        await client.call("taobao.time.get")
        assert channel.ledger()["cut"] == 1
        client.simulator.clock.advance(120)
        assert (await client.refused("taobao.time.get"))["code"] == 7
        assert channel.ledger()["cut"] == 0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("colour = 1", "unknown: colour"),
        ("settings = 1", "settings must be a table"),
        ("[settings]\nhost = '0.0.0.0'", "settings: unknown: host"),
        ("[settings]\norders = 'many'", "settings.orders"),
        ("[settings.quirks]\nids = true", "settings.quirks: unknown: ids; there are address_topic"),
        ("[settings.quirks]\npage_beyond_end = 'middle'", "settings.quirks.page_beyond_end"),
        ("[[faults]]\nseconds = 1", "fault 1: it needs a name"),
        ("[[faults]]\nfault = 'rain'", "no fault is called 'rain'"),
        ("[[faults]]\nfault = 'kick'\n[[faults]]\nfault = 'cut'", "fault 2 (cut): seconds: Field required"),
        ("[[faults]]\nfault = 'ban'\nseconds = 1", "the other scopes need an api"),
        ("[[faults]]\nfault = 'peak'\napi = 'taobao.time.get'", "it concerns taobao.trades.sold.get"),
        ("[[faults]]\nfault = 'drop'\nprobability = 2", "fault 1 (drop): probability"),
        ("[[faults]", "Expected"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused_with_a_reason(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as failure:
        scenario.load(path)
    assert str(failure.value).startswith(f"{path}: ")
    assert complaint in str(failure.value)


def test_a_scenario_that_is_not_there_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="No such file"):
        scenario.load(tmp_path / "none.toml")


def test_a_scenario_leaves_alone_what_it_does_not_set() -> None:
    plan = scenario.parse("[settings]\norders = 7\n[settings.exports]\nrun_seconds = 1\n")
    applied = plan.applied_to(SimulatorSettings(sellers=2, app_secret="other"))
    assert (applied.orders, applied.sellers, applied.app_secret) == (7, 2, "other")
    assert (applied.exports.run_seconds, applied.exports.schedule_seconds) == (1, 1800)


def test_the_command_line_lists_faults_and_refuses_a_bad_scenario(tmp_path: Path) -> None:
    def topsync(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "topsync", "simulate", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    listed = topsync("--list-faults")
    assert listed.returncode == 0
    assert all(name in listed.stdout for name in FAULTS)
    refused = topsync("--scenario", str(tmp_path / "none.toml"))
    assert refused.returncode != 0
    assert "No such file" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_parameters_are_bounded() -> None:
    for fault in FAULTS.values():
        with pytest.raises(ValidationError):
            fault.model_validate({"after_seconds": -1})
