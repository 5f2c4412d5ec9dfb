"""Chroma, embedded (in a child process) or as a server."""
