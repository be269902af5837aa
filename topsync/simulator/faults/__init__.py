"""What the platform can do to a client: a class for each fault, which decides; others carry it out."""
