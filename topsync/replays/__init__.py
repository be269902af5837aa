"""Replays as operators ask for them: which spans can be pulled again, the commands, and what they print."""
