"""The endpoints of `hub_server`: what the Hub answers to a request, from what it holds."""

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs, urlsplit

import yaml
from hub_store import GIT_ATTRIBUTES, Entry, Repository, is_kept_by_lfs

_DATE = "2026-01-01T00:00:00.000Z"
_NO_AGENTS = {"standardEnvVars": [], "harnesses": {}}


class Answer(Exception):
    """What a request is answered with; raised where an endpoint cannot go on."""

    def __init__(self, status, body=b"", error=None, message=None, **headers):
        super().__init__(status)
        self.status = status
        self.headers = {name.replace("_", "-"): str(value) for name, value in headers.items()}
        if message:
            body = {"error": message}
            self.headers["X-Error-Message"] = message
        if error:
            self.headers["X-Error-Code"] = error
        self.is_json = not isinstance(body, bytes)
        self.body = json.dumps(body).encode() if self.is_json else body


_REPOSITORY = r"(?P<name>[^/]+/[^/]+?)"
ROUTES = [
    (methods.split(), re.compile(pattern.replace("REPOSITORY", _REPOSITORY)), endpoint)
    for methods, pattern, endpoint in (
        ("GET", "/api/agent-harnesses", "agents"),
        ("GET", "/api/whoami-v2", "who_am_i"),
        ("POST", "/api/repos/create", "create"),
        ("POST", "/api/validate-yaml", "validate"),
        ("GET", "/api/datasets/REPOSITORY(/revision/(?P<revision>[^/]+))?", "info"),
        ("GET", "/api/datasets/REPOSITORY/refs", "refs"),
        ("GET", "/api/datasets/REPOSITORY/tree/(?P<revision>[^/]+)(/(?P<path>.+))?", "tree"),
        ("POST", "/api/datasets/REPOSITORY/paths-info/(?P<revision>[^/]+)", "paths_info"),
        ("POST", "/api/datasets/REPOSITORY/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", "/api/datasets/REPOSITORY/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", "/api/datasets/REPOSITORY/tag/(?P<revision>[^/]+)", "tag"),
        ("POST", r"/datasets/REPOSITORY\.git/info/lfs/objects/batch", "lfs_batch"),
        ("POST", r"/datasets/REPOSITORY\.git/info/lfs/objects/verify", "lfs_verify"),
        ("PUT", "/content/REPOSITORY/(?P<sha256>[0-9a-f]{64})", "lfs_put"),
        ("GET HEAD", "/content/REPOSITORY/(?P<sha256>[0-9a-f]{64})", "lfs_get"),
        ("GET HEAD", "/datasets/REPOSITORY/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )
]


class Endpoints:
    """One method for each endpoint, named in `ROUTES`, that returns an `Answer` or raises it.

    The request is `self.query` (its parameters), `self.headers` and `self.body`; `self.hub` is what is there.
    """

    # What tokens may do

    def account(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.hub.accounts:
            raise Answer(401, message="Invalid credentials in Authorization header")
        return self.hub.accounts.get(token)

    def repository(self, name, write=False):
        account, repository = self.account(), self.hub.repositories.get(name)
        if repository is None or (repository.private and account is None):
            status = 404 if account else 401
            raise Answer(status, error="RepoNotFound", message="Repository not found")
        if write and account is None:
            raise Answer(401, message="Invalid username or password.")
        if write:
            self._refuse_reader(account, name)
        return repository

    def _refuse_reader(self, account, name):
        if account.role != "write" or name.partition("/")[0] != account.name:
            raise Answer(
                403, message=f'You don\'t have the rights to create or change "{name}" with this token'
            )

    def at(self, name, revision):
        commit = self.repository(name).at(revision)
        if commit is None:
            raise Answer(404, error="RevisionNotFound", message=f"Invalid rev id: {revision}")
        return commit

    # Endpoints: account, repository, card

    def agents(self):
        """Name no programs that the client should count as the user's agent."""
        return Answer(200, _NO_AGENTS)

    def who_am_i(self):
        account = self.account()
        if account is None:
            raise Answer(401, message="Invalid username or password.")
        token = {"displayName": "token", "role": account.role}
        return Answer(200, {"type": "user", "name": account.name, "orgs": [], "auth": {"accessToken": token}})

    def create(self):
        wanted, account = json.loads(self.body), self.account()
        if account is None:
            raise Answer(401, message="Invalid username or password.")
        name = f"{wanted.get('organization') or account.name}/{wanted['name']}"
        self._refuse_reader(account, name)
        url = f"{self.hub.url}/datasets/{name}"
        if name in self.hub.repositories:
            return Answer(409, {"error": "You already created this dataset repo", "url": url})
        repository = self.hub.repositories[name] = Repository(wanted.get("visibility") == "private")
        repository.commit("initial commit", {".gitattributes": Entry(GIT_ATTRIBUTES, False)})
        return Answer(200, {"url": url, "name": name})

    def validate(self):
        found = re.match(r"---\n(.*?)\n---\n", json.loads(self.body)["content"], re.DOTALL)
        try:
            about = yaml.safe_load(found[1]) if found else {}
            errors = [] if isinstance(about, dict) else ["the metadata is no mapping"]
        except yaml.YAMLError as error:
            about, errors = {}, [str(error)]
        configs = [] if errors else about.get("configs", [])
        if len({config["config_name"] for config in configs}) != len(configs):
            errors.append('"configs" has a name twice')
        if sum(config.get("default", False) for config in configs) > 1:
            errors.append('"configs" has more than one default')
        said = {"errors": [{"message": error} for error in errors], "warnings": []}
        return Answer(400 if errors else 200, said)

    def info(self, name, revision="main"):
        repository, commit = self.repository(name), self.at(name, revision)
        files = [{"rfilename": path} for path in sorted(commit.tree)]
        about = {"id": name, "author": name.partition("/")[0], "sha": commit.oid, "lastModified": _DATE}
        return Answer(200, {**about, "private": repository.private, "tags": [], "siblings": files})

    def refs(self, name):
        repository = self.repository(name)

        def listed(kind, references):
            return [
                {"name": reference, "ref": f"refs/{kind}/{reference}", "targetCommit": oid}
                for reference, oid in references.items()
            ]

        tags = listed("tags", repository.tags)
        return Answer(200, {"branches": listed("heads", repository.branches), "tags": tags, "converts": []})

    def tag(self, name, revision):
        repository, wanted = self.repository(name, write=True), json.loads(self.body)["tag"]
        commit = self.at(name, revision)
        if wanted in repository.tags:
            return Answer(409, message="Tag reference exists already")
        repository.tags[wanted] = commit.oid
        return Answer(200, {"tag": wanted})

    # Endpoints: what is in a repository

    def tree(self, name, revision, path=""):
        commit = self.at(name, revision)
        is_expanded = self.query.get("expand", "").lower() == "true"
        entries = self._below(commit, path, self.query.get("recursive", "").lower() == "true", is_expanded)
        if path and not entries:
            raise Answer(404, error="EntryNotFound", message=f"{path} does not exist on {revision}")
        first, last = int(self.query.get("cursor", 0)), len(entries)
        page = min(self.hub.page, 50) if is_expanded else self.hub.page
        headers = {}
        if first + page < last:
            kept = "&".join(f"{key}={value}" for key, value in self.query.items() if key != "cursor")
            url = f"{self.hub.url}{urlsplit(self.path).path}?{kept}&cursor={first + page}"
            headers["Link"] = f'<{url}>; rel="next"'
        return Answer(200, entries[first : first + page], **headers)

    def _below(self, commit, folder, recursive, is_expanded):
        prefix, entries = f"{folder}/" if folder else "", {}
        for path, entry in sorted(commit.tree.items()):
            if path.startswith(prefix):
                parts = path.removeprefix(prefix).split("/")
                for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                    parent = prefix + "/".join(parts[:depth])
                    entries.setdefault(parent, _described(commit, parent, None, is_expanded))
                if recursive or len(parts) == 1:
                    entries[path] = _described(commit, path, entry, is_expanded)
        return list(entries.values())

    def paths_info(self, name, revision):
        commit, form = self.at(name, revision), parse_qs(self.body.decode())
        is_expanded = form.get("expand", [""])[0].lower() == "true"
        found = []
        for path in form.get("paths", []):
            if path in commit.tree:
                found.append(_described(commit, path, commit.tree[path], is_expanded))
            elif any(known.startswith(f"{path}/") for known in commit.tree):
                found.append(_described(commit, path, None, is_expanded))
        return Answer(200, found)

    def resolve(self, name, revision, path):
        commit = self.at(name, revision)
        if path not in commit.tree:
            message = f"Entry not found: {path}"
            raise Answer(404, error="EntryNotFound", message=message, X_Repo_Commit=commit.oid)
        entry = commit.tree[path]
        if not entry.is_lfs:
            return self._ranged(entry.content, entry.oid, X_Repo_Commit=commit.oid)
        return Answer(
            302,
            Location=f"{self.hub.content_url}/content/{name}/{entry.sha256}",
            X_Repo_Commit=commit.oid,
            X_Linked_Size=len(entry.content),
            X_Linked_ETag=f'"{entry.sha256}"',
        )

    def lfs_get(self, name, sha256):
        content = self.hub.repositories[name].blobs.get(sha256)
        return self._ranged(content, sha256) if content is not None else Answer(404)

    def _ranged(self, content, etag, **headers):
        headers |= {"ETag": f'"{etag}"', "Accept_Ranges": "bytes"}
        if not (wanted := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))):
            return Answer(200, content, **headers)
        first, last = wanted.groups()
        start = int(first) if first else max(len(content) - int(last), 0)
        end = min(int(last) + 1, len(content)) if first and last else len(content)
        if start >= end:
            return Answer(416, Content_Range=f"bytes */{len(content)}")
        return Answer(
            206, content[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(content)}", **headers
        )

    # Endpoints: uploading

    def preupload(self, name, revision):
        self.repository(name, write=True)
        known = self.at(name, revision).tree
        files = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if is_kept_by_lfs(file["path"], file["size"]) else "regular"
            entry = known.get(file["path"])
            oid = None if entry is None else entry.sha256 if entry.is_lfs else entry.oid
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return Answer(200, {"files": files})

    def lfs_batch(self, name):
        repository, objects = self.repository(name, write=True), []
        for wanted in json.loads(self.body)["objects"]:
            answered = dict(wanted)
            if wanted["oid"] not in repository.blobs:
                verify = f"{self.hub.url}/datasets/{name}.git/info/lfs/objects/verify"
                answered["actions"] = {
                    "upload": {"href": f"{self.hub.content_url}/content/{name}/{wanted['oid']}"},
                    "verify": {"href": verify},
                }
            objects.append(answered)
        return Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, name, sha256):
        if hashlib.sha256(self.body).hexdigest() != sha256:
            return Answer(400, message="The content is not what its digest says")
        self.hub.received_whole[sha256] += 1
        self.hub.repositories[name].blobs[sha256] = self.body
        return Answer(200)

    def lfs_verify(self, name):
        wanted = json.loads(self.body)
        content = self.repository(name, write=True).blobs.get(wanted["oid"])
        is_there = content is not None and len(content) == wanted["size"]
        return Answer(200, {"success": True}) if is_there else Answer(404, message="Object not found")

    def commit(self, name, revision):
        repository = self.repository(name, write=True)
        head, *operations = [json.loads(line) for line in self.body.splitlines()]
        parent = self.at(name, revision)
        if head["value"].get("parentCommit") not in (None, parent.oid):
            return Answer(412, message="A commit has happened since. Please refresh and try again.")
        tree = dict(parent.tree)
        for operation in operations:
            self._apply(tree, repository, operation["key"], operation["value"])
        oid = repository.commit(head["value"]["summary"], tree, revision)
        url = f"{self.hub.url}/datasets/{name}/commit/{oid}"
        return Answer(200, {"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, tree, repository, kind, value):
        path = value["path"]
        if kind == "file":
            tree[path] = Entry(base64.b64decode(value["content"]), False)
        elif kind == "lfsFile":
            if value["oid"] not in repository.blobs:
                raise Answer(400, message=f"LFS pointer of {path} points to a file that does not exist")
            tree[path] = Entry(repository.blobs[value["oid"]], True)
        else:
            gone = [path] if kind == "deletedFile" else [known for known in tree if known.startswith(path)]
            if not gone or not set(gone) <= set(tree):
                raise Answer(404, error="EntryNotFound", message="A file with this name doesn't exist")
            for known in gone:
                del tree[known]


def _described(commit, path, entry, is_expanded):
    """Describe a file, or without an entry a folder, as trees do."""
    if entry is None:
        about = {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
    else:
        about = {"type": "file", "oid": entry.oid, "size": len(entry.content), "path": path}
    if entry is not None and entry.is_lfs:
        about["lfs"] = {"oid": entry.sha256, "size": len(entry.content), "pointerSize": len(entry.pointer)}
    if is_expanded:
        about["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": _DATE}
        about["securityFileStatus"] = None
    return about
