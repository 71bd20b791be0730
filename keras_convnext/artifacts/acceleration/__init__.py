"""A model run by whatever is fastest for it here."""
