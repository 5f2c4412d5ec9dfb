"""One backend a file; `embedfleet.inference.catalogue` is the registry."""
