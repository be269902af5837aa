"""Plain values that several parts speak of. Pure: knows the contract alone."""
