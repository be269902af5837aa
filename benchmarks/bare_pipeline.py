"""The least code that does what an enricher does: `python -m benchmarks.bare_pipeline SESSIONS`.

It is the yardstick of `benchmarks.pipeline`, with the enricher's libraries, on the same servers: it reads
hints, fetches their orders, and writes them by one upsert and one transaction a batch. It has no guard, no
budget, no retries, no bounds, no metrics, and does not find out what has changed. It takes the product's
settings from the environment; SESSIONS is a JSON file with the sellers' sessions by id.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import asyncpg
import orjson
import uvloop
from aiokafka import TopicPartition

from schemas import platform_time
from topsync.base.garbage import calm_collector
from topsync.base.settings import KafkaSettings, TaobaoSettings
from topsync.platforms.taobao import catalogue
from topsync.stream import clients, topics

GROUP: Final = "bare"
TABLE: Final = "bare_orders"
BATCH: Final = 500
IN_FLIGHT: Final = 64

Trade = dict[str, Any]

UPSERT: Final = f"""
insert into {TABLE} (tid, seller_id, created, modified, status, content_hash, fetched_at, source, trade)
select tid, seller_id, created, modified, status, '', fetched_at, 'push', trade::jsonb
from unnest(
    $1::bigint[], $2::bigint[], $3::timestamptz[], $4::timestamptz[],
    $5::text[], $6::timestamptz[], $7::text[]
) as t (tid, seller_id, created, modified, status, fetched_at, trade)
on conflict (tid) do update
set
    modified = excluded.modified, status = excluded.status, fetched_at = excluded.fetched_at,
    trade = excluded.trade
"""


class Gateway:
    """The platform's gateway."""

    def __init__(
        self, platform: TaobaoSettings, sessions: Mapping[str, str], http: aiohttp.ClientSession
    ) -> None:
        self._url = str(platform.gateway_url)
        self._secret = platform.app_secret.get_secret_value().encode()
        self._sessions = sessions
        self._http = http
        self._common = {
            "method": "taobao.trade.fullinfo.get",
            "app_key": platform.app_key,
            "format": "json",
            "v": "2.0",
            "sign_method": "hmac-sha256",
            "fields": ",".join(catalogue.FULLINFO_FIELDS),
        }

    async def trade(self, hint: Mapping[str, str]) -> Trade:
        """The order that a hint is about."""
        form = {
            **self._common,
            "timestamp": platform_time.format(datetime.now(UTC)),
            "session": self._sessions[hint["seller_id"]],
            "tid": hint["tid"],
        }
        text = "".join(name + form[name] for name in sorted(form))
        form["sign"] = hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest().upper()
        async with self._http.post(self._url, data=form) as answer:
            trade: Trade = orjson.loads(await answer.read())["trade_fullinfo_get_response"]["trade"]
        return trade


async def run(sessions: Mapping[str, str]) -> None:
    """Read, fetch and write until the process is ended."""
    kafka = KafkaSettings()
    registry = topics.registry(kafka)
    database = await asyncpg.connect(os.environ["TOPSYNC_DATABASE_URL"])
    consumer = clients.consumer(kafka, group_id=GROUP)
    producer = clients.producer(kafka, transactional_id=GROUP, acks="all")
    await consumer.start()
    await producer.start()
    consumer.assign(
        [TopicPartition(registry.changes.name, number) for number in range(registry.changes.partitions)]
    )
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as http:
        gateway = Gateway(TaobaoSettings(), sessions, http)
        while True:
            taken = await consumer.getmany(timeout_ms=1000, max_records=BATCH)
            records = [record for some in taken.values() for record in some]
            hints = {record.key: orjson.loads(record.value) for record in records}
            if not hints:
                continue
            fetched_at = datetime.now(UTC)
            trades = await asyncio.gather(*map(gateway.trade, hints.values()))
            values = [orjson.dumps(trade) for trade in trades]
            await database.execute(UPSERT, *_columns(list(hints.values()), trades, values, fetched_at))
            async with producer.transaction():
                sent = [
                    await producer.send(
                        registry.orders.name,
                        key=key,
                        value=value,
                        headers=[("ce_hintedat", hint["occurred_at"].encode())],
                    )
                    for (key, hint), value in zip(hints.items(), values, strict=True)
                ]
                await asyncio.gather(*sent)
                offsets = {tp: some[-1].offset + 1 for tp, some in taken.items()}
                await producer.send_offsets_to_transaction(offsets, GROUP)


def _columns(
    hints: Sequence[Mapping[str, str]],
    trades: Sequence[Trade],
    values: Sequence[bytes],
    fetched_at: datetime,
) -> list[list[object]]:
    return [
        [trade["tid"] for trade in trades],
        [int(hint["seller_id"]) for hint in hints],
        [platform_time.parse(trade["created"]) for trade in trades],
        [platform_time.parse(trade["modified"]) for trade in trades],
        [trade["status"] for trade in trades],
        [fetched_at] * len(trades),
        [value.decode() for value in values],
    ]


if __name__ == "__main__":
    calm_collector()  # as the services do
    uvloop.run(run(orjson.loads(Path(sys.argv[1]).read_bytes())))
