"""The enricher: `changes` and `snapshots` into the table, and into `orders` and `refunds`."""
