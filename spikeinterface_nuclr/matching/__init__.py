"""Which unit of one recording is which of another: evidence, matching of relations, calibration, identities."""
