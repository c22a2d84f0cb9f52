"""What the plugin tells about itself: counters and log fields."""
