"""embedfleet: documents in, searchable vectors out, for many tenants at once."""

__version__ = "0.1.0"
