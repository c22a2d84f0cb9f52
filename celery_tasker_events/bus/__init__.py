"""The in-process path: events reach plain functions in the same process, on a thread of their own."""
