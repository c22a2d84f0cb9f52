"""What the plugin tells about itself: counters, log fields, JSON lines, spans and metrics."""
