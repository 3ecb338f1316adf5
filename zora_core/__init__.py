"""ZORA CORE: six agents, one task queue in PostgreSQL, evidence for everything they say."""

__version__ = "0.1.0"
