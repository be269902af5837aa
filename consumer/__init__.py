"""From the platform to the topics: push (TMC to changes) and enricher (changes, snapshots to orders)."""
