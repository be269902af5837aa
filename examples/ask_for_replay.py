"""Asks topsync to pull a seller's changes of a span again, and waits for the answer.

    python examples/ask_for_replay.py localhost:9092 --seller 2200000000001 --hours 2 --dry-run

It needs aiokafka and nothing of topsync. docs/subscribers.md explains the answer, and when not to ask.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

FINISHED = b"taobao.ops.replay.finished.v1"
WAIT_MILLISECONDS = 500


def request(options: argparse.Namespace) -> dict[str, Any]:
    """The request. Times are given with an offset: UTC with a Z is understood as well as +08:00."""
    now = datetime.now(UTC).replace(microsecond=0)
    return {
        "replay": options.id,
        "seller_id": str(options.seller),
        "start": (now - timedelta(hours=options.hours)).isoformat(),
        "end": now.isoformat(),
        "dry_run": options.dry_run,
    }


def headers(id_: str) -> list[tuple[str, bytes]]:
    """The headers that say what the record is: CloudEvents, binary mode."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_type", b"taobao.ops.replay.requested.v1"),
        ("ce_source", b"my-erp"),
        ("ce_id", id_.encode()),
        ("content-type", b"application/json"),
    ]


async def main() -> int:
    options = read_options()
    answers = AIOKafkaConsumer(bootstrap_servers=options.servers, isolation_level="read_committed")
    producer = AIOKafkaProducer(bootstrap_servers=options.servers, acks="all", enable_idempotence=True)
    async with answers, producer:
        # Before the request, so that the answer cannot come too early.
        partition = TopicPartition(f"{options.prefix}.ops.notifications.v1", 0)
        answers.assign([partition])
        await answers.seek_to_end(partition)
        await answers.position(partition)
        body = json.dumps(request(options)).encode()
        topic = f"{options.prefix}.ops.signals.v1"
        await producer.send_and_wait(topic, body, key=options.id.encode(), headers=headers(options.id))
        print(f"asked, as {options.id}")
        async with asyncio.timeout(options.wait_seconds):
            answer = await answer_to(options.id, answers)
    print(json.dumps(answer, indent=2))
    return 0 if answer["state"] == "done" else 1


async def answer_to(id_: str, answers: AIOKafkaConsumer) -> dict[str, Any]:
    """The outcome of the request with this id."""
    while True:
        for records in (await answers.getmany(timeout_ms=WAIT_MILLISECONDS)).values():
            for record in records:
                if dict(record.headers).get("ce_type") != FINISHED:
                    continue
                answer: dict[str, Any] = json.loads(record.value)
                if answer["replay"] == id_:
                    return answer


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("servers", help="brokers, host:port")
    parser.add_argument("--seller", type=int, required=True, help="the seller's user id")
    parser.add_argument("--hours", type=float, default=1, help="how many hours back from now")
    parser.add_argument(
        "--id", default=str(uuid.uuid4()), help="a request with the same id is carried out once"
    )
    parser.add_argument("--dry-run", action="store_true", help="only report what it would find and cost")
    parser.add_argument("--prefix", default="taobao", help="first part of the topics' names")
    parser.add_argument("--wait-seconds", type=float, default=600, help="how long to wait for the answer")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except TimeoutError:
        sys.exit("no answer in time; it may still come: look for the id in the topic of notifications")
    except KeyboardInterrupt:
        sys.exit(130)
