"""What is wrong with a value that cannot be read, in words that hold none of it."""

from __future__ import annotations

from pydantic import ValidationError


def told(error: ValidationError) -> str:
    """Each field and what is wrong with it; `value` stands for the whole."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}"
        for problem in error.errors(include_input=False)
    )
