"""What the platform can do to a client: one class per fault, decided purely, carried out elsewhere."""
