"""The kinds of things that the enricher copies: one module for each, and what they have in common."""
