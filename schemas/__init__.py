"""The contract: what is in the topics, and the platform's formats from which it is made."""
