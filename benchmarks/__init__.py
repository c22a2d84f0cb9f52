"""What the plugin costs, beside the alternatives, in one run: ``python -m benchmarks``."""
