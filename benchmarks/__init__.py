"""Measurements that anyone can repeat; ratios within one run count, absolute times are only noted."""
