"""The archive of Kafka's classes: used only when it is whole and fits, and no start depends on it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.servers import require_killable_servers
from topsync.local import java, kafka_classes, kafka_jars, kafka_recording, run_folders
from topsync.local.kafka import JVM_OPTIONS, EmbeddedKafka
from topsync.local.processes import ProcessGroup

OPTIONS = ("-Xmx512m",)
SET_UP = kafka_classes.FOLDER


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of archives of this test's own."""
    folder = tmp_path / "archives"
    folder.mkdir()
    monkeypatch.setattr(kafka_classes, "FOLDER", folder)
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A Java that cannot run."""
    home = tmp_path / "jdk"
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text('JAVA_VERSION="17.0.15"\n')
    (home / "bin" / "java").write_text("")
    return home / "bin" / "java"


@pytest.fixture
def jars(tmp_path: Path) -> Path:
    """Jars without classes."""
    folder = tmp_path / "jars"
    folder.mkdir()
    (folder / "kafka_2.13-4.1.0.jar").write_text("4.1.0")
    return folder


def recorded(tmp_path: Path, content: bytes = b"classes") -> Path:
    file = tmp_path / "recorded"
    file.write_bytes(content)
    return file


def test_a_recorded_archive_is_found_again(archives: Path, program: Path, jars: Path, tmp_path: Path) -> None:
    kept = kafka_classes.keep(recorded(tmp_path), program, jars, OPTIONS)
    assert kafka_classes.find(program, jars, OPTIONS) == kept
    assert kept.parent == archives


def test_an_archive_of_another_java_other_jars_or_other_options_is_not_used(
    archives: Path, program: Path, jars: Path, tmp_path: Path
) -> None:
    kafka_classes.keep(recorded(tmp_path), program, jars, OPTIONS)
    assert kafka_classes.find(program, jars, ()) is None
    (jars / "another.jar").write_text("more")
    assert kafka_classes.find(program, jars, OPTIONS) is None
    (jars / "another.jar").unlink()
    assert kafka_classes.find(program, jars, OPTIONS)
    (program.parents[1] / "release").write_text('JAVA_VERSION="17.0.16"\n')
    assert kafka_classes.find(program, jars, OPTIONS) is None


@pytest.mark.parametrize("damaged", [b"", b"class", b"classeS", b"classes of another"])
def test_a_damaged_archive_is_not_used(
    archives: Path, program: Path, jars: Path, tmp_path: Path, damaged: bytes
) -> None:
    kafka_classes.keep(recorded(tmp_path), program, jars, OPTIONS).write_bytes(damaged)
    assert kafka_classes.find(program, jars, OPTIONS) is None


def test_only_the_newest_archive_stays(archives: Path, program: Path, jars: Path, tmp_path: Path) -> None:
    kafka_classes.keep(recorded(tmp_path, b"first"), program, jars, OPTIONS)
    newest = kafka_classes.keep(recorded(tmp_path, b"second"), program, jars, OPTIONS)
    assert list(archives.iterdir()) == [newest]
    assert kafka_classes.find(program, jars, OPTIONS) == newest


async def test_java_starts_without_an_archive_that_was_cut_off(archives: Path, tmp_path: Path) -> None:
    require_killable_servers()
    program, jars = java.find(os.environ), kafka_jars.find(os.environ)
    (whole,) = SET_UP.glob("*.jsa")
    archive = kafka_classes.keep(recorded(tmp_path, whole.read_bytes()), program, jars, JVM_OPTIONS)
    assert kafka_classes.find(program, jars, JVM_OPTIONS)
    archive.chmod(0o644)
    os.truncate(archive, archive.stat().st_size // 2)
    assert "metadata.version" in loaded_by(await command(tmp_path))


async def test_java_starts_without_an_archive_that_it_cannot_use(archives: Path, tmp_path: Path) -> None:
    require_killable_servers()
    program, jars = java.find(os.environ), kafka_jars.find(os.environ)
    archive = kafka_classes.keep(recorded(tmp_path), program, jars, JVM_OPTIONS)
    used = await command(tmp_path)
    assert f"-XX:SharedArchiveFile={archive}" in used
    assert "metadata.version" in loaded_by(used)


async def test_the_archive_that_the_set_up_recorded_is_what_a_broker_takes_its_classes_from(
    tmp_path: Path,
) -> None:
    require_killable_servers()
    assert "org.apache.kafka.common.utils.Exit source: shared objects file (top)" in loaded_by(
        await command(tmp_path), "-Xlog:class+load"
    )


@pytest.mark.at_length
async def test_a_recording_is_whole_and_fits(archives: Path, tmp_path: Path) -> None:
    """The test above sees the same of what the set-up has recorded."""
    require_killable_servers()
    archive = await kafka_recording.record(os.environ)
    assert f"-XX:SharedArchiveFile={archive}" in await command(tmp_path)
    assert "shared objects file (top)" in loaded_by(await command(tmp_path), "-Xlog:class+load")


async def command(folder: Path) -> list[str]:
    """How an embedded Kafka starts Java: a whole broker would take five times as long."""
    async with ProcessGroup(run_folders.create(folder)) as group:
        return [str(part) for part in EmbeddedKafka(group, group.folder / "kafka", os.environ)._java]


def loaded_by(command: list[str], *options: str) -> str:
    """What one of Kafka's commands prints, which ends at once in good order."""
    program, *others = command
    done = subprocess.run(
        [program, *options, *others, "kafka.tools.StorageTool", "version-mapping"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout
