"""The call budget: leases, priorities, bans, and the gate in front of every call. Knows no platform."""
