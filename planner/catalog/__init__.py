"""Data with provenance: models, devices, offers, measurements. Each file beside this one is read on first use."""
