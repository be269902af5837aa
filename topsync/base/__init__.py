"""What every process stands on: settings, clock, retries, errors, logs, metrics, the terminal."""
