"""The bulk start of one seller: subscribe, export, load, today, certificate."""
