"""Push: the message channel into the topic `changes`."""
