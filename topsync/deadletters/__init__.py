"""Dead letters for operators: find them in their topic, show them, and try them again."""
