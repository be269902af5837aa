"""Whether the copy is whole: audit, witness, and the watch over the compacted topics."""
