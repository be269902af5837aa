"""A look at a topic from outside: it reports the state, and creates nothing."""

from __future__ import annotations

import pytest

from tests.stream.clusters import create_topics, make_anew, record, settings_for
from topsync.model.compacted_topic import Look
from topsync.stream import producer as producers
from topsync.stream import topic_look
from topsync.stream.records import partition_of_key


async def test_a_look_shows_id_and_offsets_and_another_id_of_a_topic_that_was_made_anew(
    kafka_bootstrap_servers: str, topic_prefix: str
) -> None:
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=2)
    registry = await create_topics(kafka)
    async with producers.idempotent(kafka) as producer:
        await producer.publish([record(registry.orders.name, key) for key in "abc"])
    ends = [0, 0]
    for key in "abc":
        ends[partition_of_key(key.encode(), 2)] += 1
    found = await topic_look.look(kafka, [registry.orders, registry.refunds])
    orders, refunds = found[registry.orders.name], found[registry.refunds.name]
    assert orders == Look(orders.topic_id, (0, 0), (ends[0], ends[1]))
    assert refunds == Look(refunds.topic_id, (0, 0), (0, 0))
    assert None not in (orders.topic_id, refunds.topic_id)
    assert len({orders.topic_id, refunds.topic_id}) == 2
    assert await topic_look.look(kafka, [registry.orders]) == {registry.orders.name: orders}

    await make_anew(kafka, registry.orders)
    (anew,) = (await topic_look.look(kafka, [registry.orders])).values()
    assert anew.end_offsets == (0, 0)
    assert anew.topic_id not in (None, orders.topic_id)


@pytest.mark.parametrize("version", [topic_look.METADATA_VERSION, 1000])
async def test_a_missing_topic_is_absent_and_is_not_created_also_on_a_broker_without_ids(
    kafka_bootstrap_servers: str, topic_prefix: str, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that no broker knows makes the broker look old."""
    monkeypatch.setattr(topic_look._Ask, "API_VERSION", version)
    kafka = settings_for(kafka_bootstrap_servers, topic_prefix, partitions=1)
    registry = await create_topics(kafka)
    nowhere = f"{topic_prefix}.nowhere"
    for _ in range(2):
        found = await topic_look.topic_ids(kafka, [registry.orders.name, nowhere])
        assert found.keys() == {registry.orders.name}
        assert (found[registry.orders.name] is None) == (version == 1000)
