"""The bulk start of a seller: subscribe, export, load, today, certificate."""
