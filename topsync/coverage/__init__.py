"""What is proven complete: windows, the ledger's rules and the pull of a window."""
