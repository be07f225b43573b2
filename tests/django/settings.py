"""As little of Django as the framework's own upload path needs, and nothing of it changed."""

import os
from pathlib import Path

DATA = Path(os.environ["DATA"])
API_KEY = os.environ["API_KEY"]

ALLOWED_HOSTS = ["127.0.0.1"]
FILE_UPLOAD_TEMP_DIR = DATA / "tmp"
INSTALLED_APPS = ["rest_framework"]
LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {"django.request": {"handlers": ["console"], "level": "ERROR"}},
}
MIDDLEWARE = ["access.log_requests", "django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "api"
SECRET_KEY = "tests"
TIME_ZONE = "UTC"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["access.BearerAuthentication"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.MultiPartParser"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "UNAUTHENTICATED_USER": None,
}
