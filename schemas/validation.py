"""What is wrong with a value that cannot be read, in words that quote nothing of it."""

from __future__ import annotations

from pydantic import ValidationError


def problems(error: ValidationError) -> str:
    """Each wrong field and its problem; `value` stands for the whole value."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}"
        for problem in error.errors(include_input=False)
    )
