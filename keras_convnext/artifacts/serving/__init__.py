"""A model that answers over HTTP."""
