"""The version of this program. `pyproject.toml` states the same version."""

__version__ = "0.1.0"
