"""What tests and examples use: a real Postgres with the real PGMQ that needs no installed server."""
