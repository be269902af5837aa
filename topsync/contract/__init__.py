"""The contract as documents: JSON Schemas, the AsyncAPI document, and examples."""
