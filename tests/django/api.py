"""The dataset API as Django REST Framework makes it.

What it made of each upload is a line of `uploads.jsonl`.
"""

import hashlib
import json
import uuid
from datetime import datetime, timezone

from django.conf import settings
from django.urls import path
from rest_framework import pagination, serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from access import append

DEFAULT_DATASET = "00000000-0000-4000-8000-000000000000"
USER = {"id": "00000000-0000-4000-8000-0000000000a1", "email": "tests@localhost"}


def uploads():
    log = settings.DATA / "uploads.jsonl"
    return [json.loads(line) for line in log.open()] if log.exists() else []


class UploadSerializer(serializers.Serializer):
    file = serializers.FileField(allow_empty_file=True)
    dataset_id = serializers.CharField(required=False, min_length=1)
    organization_id = serializers.CharField(required=False, min_length=1)
    metadata = serializers.JSONField(required=False)

    def validate_metadata(self, metadata):
        if not isinstance(metadata, dict):
            raise serializers.ValidationError("Value must be a JSON object.")
        if not all(isinstance(value, str) for value in metadata.values()):
            raise serializers.ValidationError("Values must be strings.")
        return metadata


class Upload(APIView):
    def post(self, request):
        serializer = UploadSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        form = serializer.validated_data
        file = form["file"]
        record = {
            "id": str(uuid.uuid4()),
            "name": file.name,
            "size": file.size,
            "content_type": file.content_type,
            "charset": file.charset and file.charset.decode(),
            "metadata": form.get("metadata"),
            "dataset_id": form.get("dataset_id"),
            "organization_id": form.get("organization_id"),
            "sha256": keep(file),
            "content_length": request.META.get("CONTENT_LENGTH"),
            "transfer_encoding": request.META.get("HTTP_TRANSFER_ENCODING"),
            "request_id": request.headers.get("X-Request-ID"),
            "user_agent": request.headers.get("User-Agent"),
            "peer_port": request.META["REMOTE_PORT"],
            "created_at": datetime.now(timezone.utc).isoformat(),
        }
        append("uploads.jsonl", record)
        if (record["metadata"] or {}).get("answer") == "lost":
            raise RuntimeError("stored, and the answer is lost")
        return Response({
            "id": record["id"],
            "dataset": dataset(record["dataset_id"] or DEFAULT_DATASET),
            "name": record["name"],
            "size": record["size"],
            "creator": USER,
            "created_at": record["created_at"],
        })


def keep(file):
    digest = hashlib.sha256()
    for chunk in file.chunks():
        digest.update(chunk)
    return digest.hexdigest()


def dataset(id):
    return {"id": id, "name": f"Dataset {id}", "creator": USER}


class Pagination(pagination.PageNumberPagination):
    page_size = 50
    page_size_query_param = "page_size"


def page(request, view, items):
    paginator = Pagination()
    results = paginator.paginate_queryset(items, request, view)
    return paginator.get_paginated_response(results)


class CurrentUser(APIView):
    def get(self, request):
        return Response(USER)


class Datasets(APIView):
    def get(self, request):
        ids = {record["dataset_id"] or DEFAULT_DATASET for record in uploads()}
        return page(request, self, [dataset(id) for id in sorted(ids)])


class Dataset(APIView):
    def get(self, request, id):
        return Response(dataset(str(id)))


class Files(APIView):
    def get(self, request, id):
        search = request.query_params.get("search", "").lower()
        found = [
            {
                "id": record["id"],
                "name": record["name"],
                "size": record["size"],
                "hash": record["sha256"],
                "content_type": record["content_type"],
                "metadata": record["metadata"] or {},
                "created_at": record["created_at"],
                "deleted_at": None,
            }
            for record in uploads()
            if (record["dataset_id"] or DEFAULT_DATASET) == str(id)
            and search in record["name"].lower()
        ]
        return page(request, self, found)


urlpatterns = [
    path("v1/users/current_user/", CurrentUser.as_view()),
    path("v1/datasets/", Datasets.as_view()),
    path("v1/datasets/<uuid:id>/", Dataset.as_view()),
    path("v1/datasets/<uuid:id>/files/", Files.as_view()),
    path("v1/datasets/files/upload/", Upload.as_view()),
]
