"""dwctl: an LLM control layer in one process.

A gateway that speaks the providers' dialects, an exact ledger, limits and an administrative API. The packages are
stacked in floors; a package imports only from floors below its own (held by import-linter, see pyproject.toml).
"""

__version__ = "0.1.0"
