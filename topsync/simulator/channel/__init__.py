"""The message channel: from bytes of a WebSocket to a group's queue of messages."""
