"""Who may ask, and a line of `requests.jsonl` for each request that was answered."""

import fcntl
import json
from types import SimpleNamespace

from django.conf import settings
from rest_framework import authentication, exceptions


def append(name, record):
    with open(settings.DATA / name, "ab", buffering=0) as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        log.write(json.dumps(record).encode() + b"\n")


def log_requests(get_response):
    def middleware(request):
        response = get_response(request)
        append("requests.jsonl", {
            "method": request.method,
            "path": request.path,
            "status": response.status_code,
        })
        return response

    return middleware


class BearerAuthentication(authentication.BaseAuthentication):
    def authenticate(self, request):
        if request.headers.get("Authorization") != f"Bearer {settings.API_KEY}":
            raise exceptions.AuthenticationFailed("Invalid token.")
        return SimpleNamespace(is_authenticated=True), None

    def authenticate_header(self, request):
        return "Bearer"
