"""Orders: a Django app."""
