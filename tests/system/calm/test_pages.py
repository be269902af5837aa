"""The commands of the pages, run exactly as printed on a whole system; scripts replace the cluster."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import pytest

from tests.support import pages, systems
from tests.support.pages import Shell
from topsync.local import java, kafka_jars, paths
from topsync.local.system import System

pytestmark = pytest.mark.asyncio(loop_scope="package")

RUNS_FOR_EVER = ("examples/subscriber.py", "examples/Subscriber.java")

# The command after `--` is run here; kubectl does what it can do without a cluster.
KUBECTL = """
real={kubectl}
case "$*" in
  *" exec "*) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;;
  "apply --kustomize"*) exec "$real" kustomize "$3" ;;
  *"create namespace"*|*"create secret"*|*"create configmap"*)
    exec "$real" "$@" --dry-run=client --output=name ;;
  *"create job"*|*" wait "*|*"rollout status"*|*" logs "*) echo "cluster: $*" ;;
  *) exec "$real" "$@" ;;
esac
"""
DOCKER = """
case "$1" in
  run) while [ "${1#images.}" = "$1" ]; do shift; done; shift; exec topsync "$@" ;;
  build) test -f "$3" && echo "engine: $*" ;;
  push) echo "engine: $*" ;;
  *) exit 1 ;;
esac
"""
KAFKA_GROUPS = 'exec {java} -cp "{jars}/*" org.apache.kafka.tools.consumer.group.ConsumerGroupCommand "$@"\n'


async def test_the_commands_for_subscribers_work(calm: System, tmp_path: Path) -> None:
    shell = Shell.at(paths.CHECKOUT, tmp_path, calm.environment)
    program, jars = shlex.quote(str(java.find(os.environ))), kafka_jars.find(os.environ)
    shell.stand_in("kafka-consumer-groups.sh", KAFKA_GROUPS.format(java=program, jars=jars))
    shown = {}
    for command in pages.commands("docs/subscribers.md"):
        if any(name in command.text for name in RUNS_FOR_EVER):
            await shell.run_until(command.text, " yuan")
        else:
            shown[command.text] = await shell.run(command.text)
    by_name = {
        name: next(text for line, text in shown.items() if name in line)
        for name in ("replenishment.py", "kafka-consumer-groups.sh", "ask_for_replay.py")
    }
    assert "have ready" in by_name["replenishment.py"]
    assert "NEW-OFFSET" in by_name["kafka-consumer-groups.sh"]
    assert '"state": "done"' in by_name["ask_for_replay.py"]


async def test_the_commands_for_operators_work(calm: System, tmp_path: Path) -> None:
    shell = Shell.at(tmp_path, tmp_path, calm.environment)
    shown = [await shell.run(command.text) for command in pages.commands("docs/operations.md")]
    assert "is done" in shown[-1]


async def test_the_installation_can_be_typed_as_it_is_printed(calm: System, tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        assert not os.environ.get("CI"), "continuous integration needs kubectl"
        pytest.skip("kubectl is not installed")
    for name in ("deploy", "schemas"):
        shutil.copytree(paths.CHECKOUT / name, tmp_path / name)
    (user_id, _), *_ = await sellers_of(calm)
    for name in ("app-secret", "database-url", "kafka-password", "database-ca.pem", "kafka-ca.pem"):
        (tmp_path / name).write_text("as a reader would have it")
    (tmp_path / "session-token").write_text(await session_of(calm, user_id))
    shell = Shell.at(tmp_path, tmp_path, calm.environment)
    shell.stand_in("kubectl", KUBECTL.format(kubectl=shlex.quote(kubectl)))
    shell.stand_in("docker", DOCKER)
    # An image takes minutes (tests/deploy/test_image.py): here, that there is such a target.
    shell.stand_in("make", f'grep -q "^$1:" {shlex.quote(str(paths.CHECKOUT / "Makefile"))}')
    for command in pages.commands("deploy/README.md"):
        if "sellers authorise" in command.text:
            continue  # needs a person with a browser: tests/operate/test_seller_commands.py
        line = command.text.replace("2076000001", str(user_id))
        output = await shell.run(line)
        if "topsync status" in line:
            assert "Sellers" in output
        if "kubectl kustomize" in line:
            assert "kind: Deployment" in (tmp_path / "rendered.yaml").read_text()


async def sellers_of(system: System) -> list[tuple[int, str]]:
    rows = await systems.rows(system, "select seller_id, nick from sellers order by seller_id")
    return [(row["seller_id"], row["nick"]) for row in rows]


async def session_of(system: System, seller_id: int) -> str:
    answer = await system.admin("GET", "/sellers")
    assert isinstance(answer, list)
    return next(str(seller["session"]) for seller in answer if seller["user_id"] == seller_id)


async def test_erasing_a_seller_can_be_typed_as_it_is_printed(calm: System, tmp_path: Path) -> None:
    shell = Shell.at(tmp_path, tmp_path, calm.environment)
    await shell.run("topsync sellers add --user-id 2200000000001 --nick demo_shop", typed="its-session\n")
    asks, confirmed = pages.commands("docs/sellers.md")
    try:
        shown = await shell.run(f"{asks.text} || true", typed="demo_shop\n")
        assert "demo_shop" in shown
        assert "is erased: 0 orders" in shown
        # Again: it says what is left to do, which is the platform's part.
        await shell.run(f"{confirmed.text} || true")
        assert "erased" in await shell.run("topsync sellers list")
    finally:
        for table in ("erasures", "sellers"):
            await systems.rows(calm, f"delete from {table} where seller_id = 2200000000001")
