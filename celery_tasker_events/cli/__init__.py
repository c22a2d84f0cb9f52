"""``celery -A proj domain-events …``"""
