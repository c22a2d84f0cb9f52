"""What users' own tests use: recorded events without services, and a real Postgres with PGMQ from a wheel."""
