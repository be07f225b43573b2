"""Sends files the way python-requests does it: jobs come as JSON on stdin, and for each in turn
[status, answer] goes to stdout."""

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import requests

session = requests.Session()
session.trust_env = False
session.headers["Authorization"] = f"Bearer {os.environ['API_KEY']}"


def send(job):
    fields = {
        "dataset_id": job["dataset_id"],
        "organization_id": job["organization_id"],
        "metadata": json.dumps(job["metadata"]) if job["metadata"] else None,
    }
    with open(job["path"], "rb") as file:
        answer = session.post(
            os.environ["BASE_URL"] + "/v1/datasets/files/upload/",
            files={"file": (job["name"], file, job["content_type"])},
            data={name: value for name, value in fields.items() if value is not None},
            headers={"X-Request-ID": job["path"].encode().hex()},
        )
    return answer.status_code, answer.json()


with ThreadPoolExecutor(4) as senders:
    json.dump(list(senders.map(send, json.load(sys.stdin))), sys.stdout)
