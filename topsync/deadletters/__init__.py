"""Dead letters as operators see them: found in their topic, shown, and asked for again."""
