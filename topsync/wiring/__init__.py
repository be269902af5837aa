"""The processes, each put together from its parts and the settings."""
