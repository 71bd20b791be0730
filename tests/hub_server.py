"""A local server that behaves like the Hugging Face hub, and misbehaves."""

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer


def commit_of(revision):
    if re.fullmatch("[0-9a-f]{40}", revision):
        return revision
    return hashlib.sha1(revision.encode()).hexdigest()


class Server:
    """Files by URL path; a hub file is found at
    `/org/name/resolve/REVISION/FILE` and redirects to its storage.

    Attributes:
        files: `{path: bytes}`.
        truncate: answers with at most this many bytes, then hangs up.
        keeps_versions: whether it gives the rest of a file to who has its
            beginning.
        requests: `(method, path)` in the order of arrival.
        headers: those of the requests.
        token: what writers must have, or `None`: nobody writes.
        refuses: part of the path of requests that it refuses.
        repositories: names of those that were made, and whether privately.
        blobs: large files that were uploaded, by their SHA-256.
        commits: pairs of a repository and the names of the files.
    """

    def __init__(self):
        self.files = {}
        self.truncate = None
        self.keeps_versions = True
        self.requests, self.headers = [], []
        self.address = self.storage = None
        self.token, self.refuses = None, None
        self.repositories, self.blobs, self.commits = {}, {}, []

    def add_repository(self, name, files, revision="main"):
        commit = commit_of(revision)
        for filename, content in files.items():
            self.files[f"/{name}/resolve/{revision}/{filename}"] = content
            self.files[f"/{name}/resolve/{commit}/{filename}"] = content
        listing = [
            {"type": "file", "path": x, "size": len(content), "oid": commit}
            for x, content in files.items()
        ]
        about = {
            f"revision/{revision}": {"id": name, "sha": commit},
            f"tree/{commit}": listing,
        }
        for path, answer in about.items():
            address = f"/api/models/{name}/{path}"
            self.files[address] = json.dumps(answer).encode()

    # How it is written to, as `huggingface_hub` does: a function for each
    # request, from its content to what is answered.

    def create(self, content):
        request = json.loads(content)
        name = f"{request['organization']}/{request['name']}"
        status = 409 if name in self.repositories else 200
        private = request.get("visibility") == "private"
        self.repositories.setdefault(name, private or request.get("private"))
        return status, {"url": f"{self.address}/{name}"}

    def validate(self, content):
        return 200, {"errors": [], "warnings": []}

    def preupload(self, content, name):
        if name not in self.repositories:
            return 404, {}
        return 200, {
            "files": [
                {
                    "path": x["path"],
                    "uploadMode": self.mode_of(x["path"]),
                    "shouldIgnore": False,
                }
                for x in json.loads(content)["files"]
            ]
        }

    def mode_of(self, path):
        return "lfs" if path.endswith((".safetensors", ".h5")) else "regular"

    def batch(self, content, name):
        objects = []
        for asked in json.loads(content)["objects"]:
            address = f"{self.storage}/lfs/{asked['oid']}?signature=very-secret"
            actions = {"actions": {"upload": {"href": address}}}
            is_there = asked["oid"] in self.blobs
            objects.append({**asked, **({} if is_there else actions)})
        return 200, {"transfer": "basic", "objects": objects}

    def put(self, content, digest):
        assert hashlib.sha256(content).hexdigest() == digest
        self.blobs[digest] = content
        return 200, {}

    def commit(self, content, name):
        files = {}
        for line in map(json.loads, content.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.blobs[value["oid"]]
        self.add_repository(name, files)
        self.commits.append((name, sorted(files)))
        oid = commit_of("main")
        address = f"{self.address}/{name}/commit/{oid}"
        return 200, {"commitUrl": address, "commitOid": oid}

    def answer_to_writer(self, path, content, token):
        is_storage = path.startswith("/lfs/")
        is_allowed = self.token and token == f"Bearer {self.token}"
        if not (is_storage or is_allowed):
            return 401, {"error": "who are you?"}
        if self.refuses and self.refuses in path:
            return 403, {"error": "not now"}
        for pattern, answer in WRITES.items():
            if found := re.fullmatch(pattern, path):
                return answer(self, content, *found.groups())
        return 404, {}


WRITES = {
    "/api/repos/create": Server.create,
    "/api/validate-yaml": Server.validate,
    "/api/models/(.+)/preupload/main": Server.preupload,
    r"/(.+)\.git/info/lfs/objects/batch": Server.batch,
    "/lfs/([0-9a-f]+)": Server.put,
    "/api/models/(.+)/commit/main": Server.commit,
}


@contextlib.contextmanager
def serve():
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def do_POST(self):
            path = self.path.split("?")[0]
            server.requests.append((self.command, path))
            server.headers.append(self.headers)
            content = self.rfile.read(int(self.headers["Content-Length"]))
            token = self.headers["Authorization"]
            status, values = server.answer_to_writer(path, content, token)
            content = json.dumps(values).encode()
            headers = {"Content-Type": "application/json"}
            self.reply(status, content, headers, with_body=True)

        do_PUT = do_POST

        def answer(self, with_body):
            path = self.path.split("?")[0]
            server.requests.append((self.command, path))
            server.headers.append(self.headers)
            stored = re.fullmatch(r"/storage(/.*)", path)
            content = server.files.get(stored[1] if stored else path)
            if content is None:
                code = "EntryNotFound" if "/resolve/" in path else ""
                if code and not any(
                    name.startswith(path.split("/resolve/")[0])
                    for name in server.files
                ):
                    code = "RepoNotFound"
                self.reply(404, b"", {"X-Error-Code": code}, with_body)
            elif "/resolve/" in path and not stored:
                revision = path.split("/resolve/")[1].split("/")[0]
                digest = hashlib.sha256(content).hexdigest()
                headers = {
                    # Another host, as the real hub's storage is.
                    "Location": f"{server.storage}/storage{path}",
                    "X-Repo-Commit": commit_of(revision),
                    "X-Linked-Size": str(len(content)),
                    "X-Linked-Etag": f'"{digest}"',
                    "ETag": f'"{digest}"',
                }
                self.reply(302, b"", headers, with_body)
            elif server.keeps_versions:
                self.reply_versioned(content, with_body)
            else:
                self.reply(200, content, {}, with_body)

        def reply_versioned(self, content, with_body):
            """The rest of a file, if it is the one that was begun."""
            tag = f'"{hashlib.sha256(content).hexdigest()}"'
            start = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
            if start and self.headers["If-Range"] == tag:
                first, last = int(start[1]), len(content) - 1
                place = f"bytes {first}-{last}/{len(content)}"
                headers = {"ETag": tag, "Content-Range": place}
                self.reply(206, content[first:], headers, with_body)
            else:
                self.reply(200, content, {"ETag": tag}, with_body)

        def reply(self, status, content, headers, with_body):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not with_body:
                return
            if server.truncate is not None and len(content) > server.truncate:
                self.wfile.write(content[: server.truncate])
                self.wfile.flush()
                self.close_connection = True
                return
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    server.address = f"http://127.0.0.1:{httpd.server_port}"
    server.storage = f"http://localhost:{httpd.server_port}"
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()


def no_host(monkeypatch):
    """As without a network: no name can be resolved."""

    def fail(*args, **kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
