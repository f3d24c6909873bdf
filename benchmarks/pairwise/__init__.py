"""The closed form of a step against a trace of the library's own model, over pairs of settings."""
