"""Django's settings; those that start with CELERY_ are Celery's, and CELERY_TASKER_EVENTS_ the domain events'."""

import os

SECRET_KEY = os.environ.get("SECRET_KEY", "only for this example")
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["orders"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# libpq reads the host, the user and the password from PGHOST, PGUSER and PGPASSWORD, for Django and for the events.
DATABASE = os.environ.get("PGDATABASE", "shop")
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": DATABASE}}

CELERY_BROKER_URL = os.environ.get("BROKER_URL", "redis://localhost:6379/0")
CELERY_TASKER_EVENTS_DSN = f"dbname={DATABASE}"
CELERY_TASKER_EVENTS_NAMESPACE = "shop"
