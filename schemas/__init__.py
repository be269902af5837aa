"""The contract: what flows through the topics, and the platform formats that it is built from."""
