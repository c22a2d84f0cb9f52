"""What a worker serves to Prometheus."""
