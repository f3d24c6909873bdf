"""The ledger: what a run holds in device, host and disk, by term and by moment."""
