"""The console: what the queues hold and what goes through them, in a browser; extra ``[console]``."""
