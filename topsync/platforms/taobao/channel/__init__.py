"""The message channel (TMC): frames as bytes, a session without I/O, and its asyncio connection."""
