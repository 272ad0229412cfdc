"""A stand-in for the Hub on this machine: what huggingface_hub asks to make a model, commit to it and fetch it."""

import base64
import hashlib
import json
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import unquote, urlsplit

SHA = "0123456789abcdef0123456789abcdef01234567"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def answer(self, value=None, content: bytes | None = None, status: int = 200, **headers: str) -> None:
        content = json.dumps(value).encode() if content is None else content
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        hub = self.server
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self.answer({"error": "Invalid username or password."}, status=401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            hub.repos.setdefault(name, {})
            hub.private[name] = asked.get("private") is True or asked.get("visibility") == "private"
            self.answer({"url": f"{hub.url}/{name}"})
        elif "/preupload/" in path:  # every file is small enough for the commit itself
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in path:
            name = "/".join(path.split("/")[3:5])
            repo = hub.repos[name]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    repo[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            hub.commits += 1
            self.answer({"commitUrl": f"{hub.url}/{name}/commit/{SHA}", "commitOid": SHA, "pullRequestUrl": None})
        else:
            self.answer({}, status=200)

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[0] == "api":
            name = "/".join(parts[2:4])
            if name not in self.server.repos:
                self.answer({"error": "Repository not found"}, status=404, X_Error_Code="RepoNotFound")
            elif "tree" in parts:
                files = self.server.repos[name]
                self.answer([{"type": "file", "path": p, "size": len(c), "oid": SHA} for p, c in files.items()])
            else:
                files = [{"rfilename": path} for path in self.server.repos[name]]
                self.answer({"_id": "1", "id": name, "sha": SHA, "siblings": files})
            return
        name, path = "/".join(parts[:2]), "/".join(parts[4:])  # USER/NAME/resolve/REVISION/PATH
        content = self.server.repos.get(name, {}).get(path)
        if content is None:
            self.answer({"error": "Entry not found"}, status=404, X_Error_Code="EntryNotFound")
            return
        if self.command == "GET":
            self.server.fetched.append(path)
        etag = f'"{hashlib.sha1(content).hexdigest()}"'
        self.answer(content=content, X_Repo_Commit=SHA, ETag=etag)

    do_HEAD = do_GET


@contextmanager
def standing_in(token: str = ""):
    """A server with `url`, `repos` (name -> path -> bytes), `commits`, `private`, and `fetched` paths."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.repos, server.private, server.fetched, server.commits, server.token = {}, {}, [], 0, token
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
