"""One module a framework: how it builds an architecture by name."""
