"""Into the table under the partition's epoch, then into the topics in a transaction."""
