"""An archive of the classes of the embedded Kafka: with it a broker starts in half of the processor time.

Java calls this class data sharing: classes that are parsed, checked and linked are mapped from a file. The
set-up records the archive once (`kafka_recording`). Without it everything works, only later.

Java itself ignores an archive of other jars or of another Java, but an archive that was cut off ends it. So
the name of the file holds what the archive was recorded with, and a checksum of its content: what does not
match is not used. The file gets its name by a rename when it is complete, so that processes may record and
start at the same time.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from topsync.local import paths

FOLDER: Final = paths.LOCAL / "kafka-classes"
SUFFIX: Final = ".jsa"
PIECE_BYTES: Final = 1024 * 1024


def find(java: Path, jars: Path, options: Sequence[str]) -> Path | None:
    """The archive for this Java with these jars and options; None if there is none, or if it is damaged."""
    wanted = key(java, jars, options)
    for archive in FOLDER.glob(f"{wanted}-*{SUFFIX}"):
        try:
            if archive.name == _name(wanted, archive):
                return archive
        except OSError:  # another process has just replaced it, or it cannot be read
            continue
    return None


def keep(recorded: Path, java: Path, jars: Path, options: Sequence[str]) -> Path:
    """Take over a recorded archive, from the same file system, in place of all others; returns its path."""
    wanted = key(java, jars, options)
    FOLDER.mkdir(parents=True, exist_ok=True)
    archive = recorded.replace(FOLDER / _name(wanted, recorded))
    for other in FOLDER.glob(f"*{SUFFIX}"):
        if other != archive:
            # A broker that uses it goes on: its mapping outlives the name.
            other.unlink(missing_ok=True)
    return archive


def key(java: Path, jars: Path, options: Sequence[str]) -> str:
    """Names what an archive depends on: the build of Java, the jars, and the options of Java."""
    home = java.resolve().parents[1]
    parts = [str(home), *options, str(jars.resolve())]
    release = home / "release"
    if release.is_file():
        parts.append(release.read_text(errors="replace"))
    parts += [_stamp(file) for file in (java.resolve(), home / "lib" / "server" / "libjvm.so")]
    parts += [_stamp(jar) for jar in sorted(jars.glob("*.jar"))]
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:12]


def _stamp(file: Path) -> str:
    if not file.is_file():
        return f"{file.name} absent"
    about = file.stat()
    return f"{file.name} {about.st_size} {about.st_mtime_ns}"


def _name(wanted: str, content: Path) -> str:
    checksum = 0
    with content.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            checksum = zlib.crc32(piece, checksum)
    return f"{wanted}-{checksum:08x}{SUFFIX}"
