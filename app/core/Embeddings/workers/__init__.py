"""Drop-in names of the workers."""
