"""Drop-in names for tldw_server: the modules here re-export embedfleet and hold no code."""
