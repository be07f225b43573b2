"""The documented Python client: `peer.py URL ROOT one` sends file after file as its pages show it,
`peer.py URL ROOT session` on 16 threads with a session each."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import requests

HEADERS = {"Authorization": "Bearer bench-key"}
DATA = {"dataset_id": "3f2b7a52-0000-4000-8000-000000000001"}


def send(post, url, path):
    with open(path, "rb") as file:
        answer = post(url, headers=HEADERS, data=DATA, files={"file": file})
    answer.raise_for_status()
    return answer.json()["id"]


def main():
    url, root, how = sys.argv[1:]
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    if how == "one":
        for path in paths:
            send(requests.post, url, path)
        return
    own = threading.local()

    def in_session(path):
        if not hasattr(own, "session"):
            own.session = requests.Session()
        return send(own.session.post, url, path)

    with ThreadPoolExecutor(16) as pool:
        for _ in pool.map(in_session, paths):
            pass


main()
