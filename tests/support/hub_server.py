"""A Hub for tests: a server on this machine that speaks the Hub's protocol, in memory, and can be told to misbehave.

It knows models, branches and commits, files in git and in LFS, ranges, private repos, and what the Hub answers about
what is not there. Sources: huggingface_hub's client, and git-lfs' batch API (git-lfs/docs/api/batch.md).
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".onnx", ".png")


@dataclass
class Answer:
    """A response; `cut` ends the connection after half of the body, `silent` sends nothing until the Hub closes."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False


@dataclass
class Repo:
    """Commits are {file: content}; `branches` holds the ids of theirs, oldest first."""

    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, list[str]] = field(default_factory=lambda: {"main": []})

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        history = self.branches[branch]
        listing = {path: git_hash(content) for path, content in sorted(files.items())}
        name = hashlib.sha1(json.dumps([listing, history]).encode()).hexdigest()
        self.commits[name] = files
        history.append(name)
        return name

    def find(self, revision: str) -> str | None:
        history = self.branches.get(revision)
        return (history or [None])[-1] if history is not None else revision if revision in self.commits else None


class Hub:
    """The server, a context manager: `url`, its `repos`, the `requests` it got, the `faults` it is told to show."""

    def __init__(self):
        self.repos: dict[str, Repo] = {}
        self.stored: dict[str, bytes] = {}  # LFS objects by SHA-256
        self.requests: list[tuple[str, str, dict[str, str]]] = []  # method, path, headers
        self.faults: list[tuple[str, str, Callable[[Answer], None], bool]] = []
        self.at_half_upload: Callable[[], None] | None = None
        self.closing = threading.Event()
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.files_url = f"http://localhost:{self.server.server_port}"  # another host, as the Hub's file servers are

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, name: str, files: dict[str, bytes], branch: str = "main") -> str:
        """A commit of exactly `files`; its id."""
        return self.repos.setdefault(name, Repo()).commit(branch, files)

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        repo = self.repos[name]
        return repo.commits[repo.find(revision) or ""]

    def misbehave(self, method: str, path: str, change: Callable[[Answer], None], once: bool = False) -> None:
        """Let `change` alter every answer, or the next, to requests whose path contains the expression `path`."""
        self.faults.append((method, path, change, once))

    def faults_of(self, method: str, path: str) -> list[Callable[[Answer], None]]:
        """What is wrong with the answer to this request."""
        found = [fault for fault in self.faults if method in fault[0].split("|") and re.search(fault[1], path)]
        self.faults = [fault for fault in self.faults if not (fault in found and fault[3])]
        return [change for _, _, change, _ in found]


def failing(status: int) -> Callable[[Answer], None]:
    """The fault of answering with a status and no more."""

    def change(answer: Answer) -> None:
        answer.status, answer.body, answer.headers = status, b"", {}

    return change


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def as_json(content, status: int = 200) -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": "application/json"})


def missing(kind: str, status: int = 404, commit: str = "") -> Answer:
    headers = {"X-Error-Code": f"{kind}NotFound", "X-Error-Message": f"{kind} not found"}
    return Answer(status, b"", {**headers, **({"X-Repo-Commit": commit} if commit else {})})


class Handler(BaseHTTPRequestHandler):
    """Routes of the Hub; `hub` is set in a subclass."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    ROUTES = (
        ("GET|HEAD", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "file"),
        ("GET|HEAD", r"/lfs/(\w+)", "lfs_object"),
        ("PUT", r"/lfs/(\w+)", "lfs_upload"),
        ("POST", r"/lfs/(\w+)/verify", "lfs_verify"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("GET", r"/api/whoami-v2", "who_am_i"),
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", "preupload"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", "commit"),
        ("POST", r"/api/models/([^/]+/[^/]+)/branch/([^/]+)", "branch"),
        ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", "tree"),
        ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
    )

    def handle_request(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path, {name.lower(): value for name, value in self.headers.items()}))
        body = b"" if self.command == "PUT" else self.rfile.read(int(self.headers.get("Content-Length") or 0))
        changes = self.hub.faults_of(self.command, path)
        answer = Answer() if changes and self.command == "POST" else self.route(path, body)  # nothing comes of it
        for change in changes:
            change(answer)
        self.send(answer)

    do_GET = do_HEAD = do_PUT = do_POST = handle_request

    def do_CONNECT(self) -> None:
        self.send(Answer(403))

    def route(self, path: str, body: bytes) -> Answer:
        for methods, pattern, name in self.ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in methods.split("|"):
                return getattr(self, name)(body, *(unquote(part or "main") for part in match.groups()))
        return Answer(404)

    def send(self, answer: Answer) -> None:
        if answer.silent:
            self.hub.closing.wait()
        body = answer.body
        if answer.status == 200 and (span := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))):
            start = int(span[1])
            answer.status, body = 206, body[start:]
            answer.headers["Content-Range"] = f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}"
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if answer.cut else body)
        self.close_connection = self.close_connection or answer.cut or answer.silent

    def log_message(self, *_) -> None:
        pass

    def visible(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        return None if repo is None or (repo.private and not self.headers.get("Authorization")) else repo

    def unseen(self) -> Answer:
        return missing("Repo", 404 if self.headers.get("Authorization") else 401)

    # downloads

    def file(self, _: bytes, name: str, revision: str, path: str) -> Answer:
        repo = self.visible(name)
        if repo is None:
            return self.unseen()
        commit = repo.find(revision)
        if commit is None:
            return missing("Revision")
        content = repo.commits[commit].get(path)
        if content is None:
            return missing("Entry", commit=commit)
        if not path.endswith(LFS_SUFFIXES):
            return Answer(200, content, {"X-Repo-Commit": commit, "ETag": f'"{git_hash(content)}"'})
        oid = hashlib.sha256(content).hexdigest()
        self.hub.stored[oid] = content
        linked = {"X-Linked-ETag": f'"{oid}"', "X-Linked-Size": str(len(content))}
        return Answer(302, b"", {"X-Repo-Commit": commit, "Location": f"{self.hub.files_url}/lfs/{oid}", **linked})

    def lfs_object(self, _: bytes, oid: str) -> Answer:
        content = self.hub.stored.get(oid)
        return missing("Entry") if content is None else Answer(200, content, {"ETag": f'"{oid}"'})

    def info(self, _: bytes, name: str, revision: str) -> Answer:
        repo = self.visible(name)
        if repo is None:
            return self.unseen()
        commit = repo.find(revision)
        if commit is None and revision != "main":
            return missing("Revision")
        siblings = [{"rfilename": path} for path in repo.commits.get(commit or "", {})]
        return as_json({"id": name, "sha": commit, "private": repo.private, "tags": [], "siblings": siblings})

    def tree(self, _: bytes, name: str, revision: str) -> Answer:
        repo = self.visible(name)
        if repo is None:
            return self.unseen()
        entries = []
        for path, content in repo.commits[repo.find(revision) or ""].items():
            entry = {"type": "file", "path": path, "size": len(content), "oid": git_hash(content)}
            if path.endswith(LFS_SUFFIXES):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 128}
            entries.append(entry)
        return as_json(entries)

    # uploads

    def who_am_i(self, _: bytes) -> Answer:
        user = {"type": "user", "name": "tester", "fullname": "tester", "orgs": [], "auth": {"type": "access_token"}}
        return as_json(user) if self.headers.get("Authorization") else Answer(401)

    def create(self, body: bytes) -> Answer:
        if not self.headers.get("Authorization"):
            return Answer(401)
        wanted = json.loads(body)
        name = f"{wanted.get('organization') or 'tester'}/{wanted['name']}"
        taken = name in self.hub.repos
        if not taken:
            self.hub.add(name, {})
            # an older huggingface_hub tells whether it is private instead
            self.hub.repos[name].private = wanted.get("visibility") == "private" or wanted.get("private", False)
        return as_json({"url": f"{self.hub.url}/{name}", "name": name, "id": name}, 409 if taken else 200)

    def validate(self, _: bytes) -> Answer:
        return as_json({"errors": [], "warnings": []})

    def branch(self, _: bytes, name: str, branch: str) -> Answer:
        branches = self.hub.repos[name].branches
        status = 409 if branch in branches else 201
        branches.setdefault(branch, list(branches["main"]))
        return as_json({}, status)

    def preupload(self, body: bytes, name: str, revision: str) -> Answer:
        repo = self.visible(name)
        if repo is None:
            return self.unseen()
        present = repo.commits.get(repo.find(revision) or "", {})
        files = []
        for file in json.loads(body)["files"]:
            path, content = file["path"], present.get(file["path"])
            lfs = path.endswith(LFS_SUFFIXES)
            oid = None if content is None else hashlib.sha256(content).hexdigest() if lfs else git_hash(content)
            mode = "lfs" if lfs else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return as_json({"files": files})

    def lfs_batch(self, body: bytes, name: str) -> Answer:
        objects = []
        for wanted in json.loads(body)["objects"]:
            href = f"{self.hub.url}/lfs/{wanted['oid']}"
            actions = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
            objects.append({**wanted, **({} if wanted["oid"] in self.hub.stored else {"actions": actions})})
        return as_json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, _: bytes, oid: str) -> Answer:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length // 2)
        if self.hub.at_half_upload:
            self.hub.at_half_upload()
        content += self.rfile.read(length - len(content))
        if hashlib.sha256(content).hexdigest() != oid:
            return Answer(400)
        self.hub.stored[oid] = content
        return Answer(200)

    def lfs_verify(self, body: bytes, oid: str) -> Answer:
        return Answer(200 if len(self.hub.stored.get(oid, b"")) == json.loads(body)["size"] else 404)

    def commit(self, body: bytes, name: str, branch: str) -> Answer:
        repo = self.visible(name)
        if repo is None:
            return self.unseen()
        if branch not in repo.branches:
            return missing("Revision")
        parent = repo.find(branch)
        files = dict(repo.commits.get(parent or "", {}))
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit") not in (None, parent):
                return Answer(412)
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            if entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            if entry["key"] == "deletedFile":
                del files[value["path"]]
        oid = repo.commit(branch, files)
        return as_json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})
