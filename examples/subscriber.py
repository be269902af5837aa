"""A subscriber of topsync's orders: prints each order that was paid, shipped, refunded or ended.

    python examples/subscriber.py localhost:9092 --group my-erp

It needs aiokafka and nothing of topsync. Stop it with ctrl-c; the next start goes on where it stopped.
docs/subscribers.md explains each decision that is made here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError

WANTED = {"paid", "shipped", "partly-refunded", "finished", "closed"}
"""The transitions that this subscriber acts on."""

WAIT_MILLISECONDS = 500


async def main() -> None:
    options = read_options()
    await require_topic(options.servers, options.topic)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.servers,
        group_id=options.group,
        auto_offset_reset="earliest",  # a new group reads everything: this is how to replay
        isolation_level="read_committed",  # an order of an aborted transaction was never published
        enable_auto_commit=False,  # we commit records after acting on them
    )
    # In your system, keep this in your database, and write it in the transaction of your own change.
    revisions: dict[str, int] = {}
    async with consumer:
        ends: dict[TopicPartition, int] = {}
        while not options.until_end or not ends or await is_before(consumer, ends):
            for records in (await consumer.getmany(timeout_ms=WAIT_MILLISECONDS)).values():
                for record in records:
                    take(record, revisions)
            # Commit after acting: a crash in between repeats records, but loses none. During a rebalance the
            # group accepts no commit: the next owner of the partition gets the records again.
            with contextlib.suppress(CommitFailedError):
                await consumer.commit()
            if not ends:
                ends = await consumer.end_offsets([*consumer.assignment()])


async def require_topic(servers: str, topic: str) -> None:
    """End if there is no topic: most brokers create a topic that is asked for by name, not compacted."""
    async with AIOKafkaConsumer(bootstrap_servers=servers) as looking:
        if topic not in await looking.topics():  # asks for all topics, without a name
            sys.exit(f"{topic} is not there (yet): `topsync topics apply` creates it")


def take(record: ConsumerRecord[bytes, bytes | None], revisions: dict[str, int]) -> None:
    """Act on a record, unless it is old, or has no transition that we act on."""
    tid = record.key.decode()
    if record.value is None:  # a tombstone: the order was erased, forget it
        revisions.pop(tid, None)
        print(f"{tid} erased")
        return
    about = {name.removeprefix("ce_"): value.decode() for name, value in record.headers}
    revision = int(about["revision"])
    if revision <= revisions.get(tid, 0):  # the same record again
        return
    revisions[tid] = revision
    happened = about["transitions"].split(",")
    if not WANTED.intersection(happened):  # decided without reading the JSON
        return
    order: dict[str, Any] = json.loads(record.value)
    print(f"{about['time']} {tid} {'+'.join(happened)} {order['status']} {order.get('payment', '-')} yuan")


async def is_before(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> bool:
    """Whether there are still records that were there at the start."""
    return any([await consumer.position(partition) < end for partition, end in ends.items()])


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("servers", help="brokers, host:port")
    parser.add_argument("--topic", default="taobao.trade.orders.v1")
    parser.add_argument("--group", default="example", help="its offsets are kept under this name")
    parser.add_argument(
        "--until-end", action="store_true", help="end after the records that are there at the start"
    )
    return parser.parse_args()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
