"""The REST gateway (TOP): signing, errors, client and typed calls."""
