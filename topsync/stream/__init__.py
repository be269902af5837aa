"""Kafka: topic registry, producers, transactional publishing and partition ownership."""
