"""The durable path: events are committed to PGMQ queues in Postgres, in batches."""
