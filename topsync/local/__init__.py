"""An embedded PostgreSQL and a Kafka broker, for trying out and for tests."""
