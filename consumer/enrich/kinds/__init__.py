"""The kinds of things that the enricher copies: a module for each kind, and what the kinds have in common."""
