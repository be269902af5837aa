"""What to restock: the sales of the last seven days per item, and how many pieces to have ready.

    python examples/replenishment.py localhost:9092

It reads the whole topic of orders, which is compacted: so it gets at least the newest version of every order.
It needs aiokafka and nothing of topsync. Stock is not in the topics: subtract your stock from "have ready".
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from aiokafka import AIOKafkaConsumer

DAYS = 7
CHINA = timezone(timedelta(hours=8))

PAID = {
    "PAID_FORBID_CONSIGN",
    "WAIT_SELLER_SEND_GOODS",
    "SELLER_CONSIGNED_PART",
    "WAIT_BUYER_CONFIRM_GOODS",
    "TRADE_BUYER_SIGNED",
    "TRADE_FINISHED",
}
"""Statuses of orders that are sold: paid, or cash on delivery. Closed orders are not."""

TO_SHIP = {"PAID_FORBID_CONSIGN", "WAIT_SELLER_SEND_GOODS"}
"""Statuses of lines; a line has its own status."""

Order = dict[str, Any]


@dataclass
class Item:
    """The sales of an item."""

    item: str
    title: str
    sold: int = 0
    """Pieces of the last seven days, without refunded pieces."""
    sold_lately: int = 0
    """Of these, in the last three days."""
    revenue: Decimal = field(default_factory=Decimal)
    to_ship: int = 0
    """Pieces that are paid and not shipped yet, of any age."""
    deposits: int = 0
    """Pieces of presales whose deposit is paid: not sold yet, but promised."""

    def have_ready(self, cover_days: int) -> int:
        """Promised pieces, and the sales of so many days at the higher of both daily rates."""
        pace = max(self.sold / DAYS, self.sold_lately / 3)
        return self.to_ship + self.deposits + math.ceil(pace * cover_days)


def summarise(orders: Iterable[Order], now: datetime) -> list[Item]:
    """The items that are sold or promised; best sellers first."""
    items: dict[str, Item] = {}
    for order in orders:
        deposit = (
            order["status"] == "WAIT_BUYER_PAY"
            and order.get("step_trade_status") == "FRONT_PAID_FINAL_NOPAID"
        )
        if order["status"] not in PAID and not deposit:
            continue
        age = now - datetime.fromisoformat(order.get("pay_time") or order["created"])
        for line in order["orders"]:
            if line.get("refund_status") == "SUCCESS" or "num_iid" not in line:
                continue
            item = items.setdefault(line["num_iid"], Item(line["num_iid"], line.get("title", "")))
            count(item, line, age=age, deposit=deposit)
    found = [item for item in items.values() if item.sold or item.to_ship or item.deposits]
    return sorted(found, key=lambda item: (-item.sold, item.item))


def count(item: Item, line: Order, *, age: timedelta, deposit: bool) -> None:
    pieces = line.get("num", 0)
    if deposit:
        item.deposits += pieces
        return
    if line.get("status") in TO_SHIP:
        item.to_ship += pieces
    if age < timedelta(days=DAYS):
        item.sold += pieces
        item.revenue += Decimal(line.get("divide_order_fee", "0"))
    if age < timedelta(days=3):
        item.sold_lately += pieces


async def read_orders(servers: str, topic: str) -> list[Order]:
    """The newest version of every order that is in the topic now."""
    newest: dict[bytes, bytes] = {}
    async with AIOKafkaConsumer(bootstrap_servers=servers) as looking:
        # Most brokers create a topic that is asked for by name, not compacted; this asks without a name.
        if topic not in await looking.topics():
            sys.exit(f"{topic} is not there (yet): `topsync topics apply` creates it")
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=servers,
        group_id=None,  # it reads everything each time, and keeps no place
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    async with consumer:
        ends = await consumer.end_offsets([*consumer.assignment()])
        for partition, end in ends.items():
            while await consumer.position(partition) < end:
                for record in (await consumer.getmany(partition, timeout_ms=500)).get(partition, []):
                    if record.value is None:  # a tombstone: the order was erased
                        newest.pop(record.key, None)
                    else:  # no version comes after a newer version
                        newest[record.key] = record.value
    return [json.loads(value) for value in newest.values()]


HEADINGS = (
    "item",
    "title",
    "sold 7 d",
    "per day",
    "last 3 d",
    "revenue",
    "to ship",
    "deposits",
    "have ready",
)


def table(items: Sequence[Item], cover_days: int) -> str:
    """The items as text in columns."""
    rows = [HEADINGS] + [
        (
            item.item,
            shorten(item.title),
            str(item.sold),
            f"{item.sold / DAYS:.1f}",
            str(item.sold_lately),
            f"{item.revenue:.2f}",
            str(item.to_ship),
            str(item.deposits),
            str(item.have_ready(cover_days)),
        )
        for item in items
    ]
    widths = [max(width(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(pad(cell, widths[column], left=column < 2) for column, cell in enumerate(row)).rstrip()
        for row in rows
    )


def width(text: str) -> int:
    """Columns on a terminal, where a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def pad(text: str, columns: int, *, left: bool) -> str:
    space = " " * (columns - width(text))
    return text + space if left else space + text


def shorten(text: str, columns: int = 28) -> str:
    while width(text) > columns:
        text = text[:-2] + "…"
    return text


def moment(text: str) -> datetime:
    """A time in ISO 8601; without an offset it is China's time."""
    typed = datetime.fromisoformat(text)
    return typed if typed.tzinfo else typed.replace(tzinfo=CHINA)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("servers", help="brokers, host:port")
    parser.add_argument("--topic", default="taobao.trade.orders.v1")
    parser.add_argument("--cover-days", type=int, default=14, help="for how long the stock should last")
    parser.add_argument(
        "--now", type=moment, help="the end of the seven days; in GMT+8, unless it has an offset"
    )
    options = parser.parse_args()
    now = options.now or datetime.now(CHINA)
    items = summarise(await read_orders(options.servers, options.topic), now)
    until = f"{now.astimezone(CHINA):%Y-%m-%d %H:%M} (GMT+8)"
    print(f"{DAYS} days up to {until}, stock for {options.cover_days} days")
    print(table(items, options.cover_days))


if __name__ == "__main__":
    asyncio.run(main())
