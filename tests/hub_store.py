"""What the Hub of `hub_server` holds: accounts, repositories with all their commits, and faults to show."""

import fnmatch
import hashlib
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

WRITER, READER = "hf_writer0000000000000000000000", "hf_reader0000000000000000000000"
OWNER = "someone"
"""The namespace in which `WRITER` may write."""

_LFS_NAMES = ("*.parquet", "*.png")
GIT_ATTRIBUTES = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in _LFS_NAMES).encode()
"""What the Hub puts into a new repository."""

_ALWAYS_LFS = 10 << 20  # bytes from which the Hub keeps any file by LFS


@dataclass(frozen=True)
class Account:
    """Who a token belongs to, and whether it may write."""

    name: str
    role: str


ACCOUNTS = {WRITER: Account(OWNER, "write"), READER: Account(OWNER, "read")}


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its content, and how it is kept."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self):
        """Git's name of the blob: of the pointer where the file is kept by LFS."""
        content = self.pointer if self.is_lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    @property
    def pointer(self):
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}")
        return "\n".join((*lines, f"size {len(self.content)}\n")).encode()


@dataclass(frozen=True)
class Commit:
    oid: str
    tree: dict[str, Entry]
    title: str
    parent: str | None


@dataclass
class Repository:
    """A data set repository: every commit with its whole tree, branches and tags by name, LFS blobs."""

    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def commit(self, title, tree, branch="main"):
        parent = self.branches.get(branch)
        said = repr((parent, title, [(path, tree[path].oid) for path in sorted(tree)]))
        oid = hashlib.sha1(said.encode()).hexdigest()
        self.commits[oid] = Commit(oid, dict(tree), title, parent)
        self.branches[branch] = oid
        return oid

    def at(self, revision):
        """Return a commit by branch, tag or the beginning of its oid; None if there is none."""
        name = revision.removeprefix("refs/heads/").removeprefix("refs/tags/")
        known = self.branches.get(name) or self.tags.get(name)
        if known is None and re.fullmatch(r"[0-9a-f]{7,40}", name):
            known = next((oid for oid in self.commits if oid.startswith(name)), None)
        return self.commits[known] if known else None

    @property
    def files(self):
        """Content of the files of the branch `main`, by path."""
        return {path: entry.content for path, entry in self.commits[self.branches["main"]].tree.items()}


@dataclass
class Request:
    """A request that was received: body bytes in both directions, the status 0 when it was cut."""

    method: str
    path: str
    has_token: bool
    status: int = 0
    received: int = 0
    sent: int = 0


class Hub:
    """What the server knows and counts, and the faults that it is to show."""

    def __init__(self, accounts=ACCOUNTS, page=1_000):
        """`page` is how many entries of a tree one answer holds, as many as the Hub's by default."""
        self.accounts, self.page = dict(accounts), page
        self.repositories = {}
        self.requests = []
        self.unknown = []  # requests to endpoints that this server does not have
        self.received_whole = Counter()  # times that all bytes of a blob arrived, by sha256
        self.lock = threading.RLock()
        self.port = 0
        self.is_down = False
        self._failures = []
        self._requests_left = self._bytes_left = None
        self._is_handled = False

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def content_url(self):
        return f"http://localhost:{self.port}"

    def served(self, path=""):
        """Body bytes sent for requests whose path matches `path`, a regular expression for a part of it."""
        return sum(request.sent for request in self.requests if re.search(path, request.path))

    def asked(self, path="", method=None):
        """How many requests had a path that matches `path`."""
        return sum(
            bool(re.search(path, asked.path)) and method in (None, asked.method) for asked in self.requests
        )

    def put_folder(self, folder, name, private=False):
        """Make, or commit to, a repository that holds the files of a folder and nothing else."""
        repository = self.repositories.setdefault(name, Repository(private))
        tree = {".gitattributes": Entry(GIT_ATTRIBUTES, False)}
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                place = path.relative_to(folder).as_posix()
                tree[place] = Entry(path.read_bytes(), is_kept_by_lfs(place, path.stat().st_size))
        repository.blobs |= {entry.sha256: entry.content for entry in tree.values() if entry.is_lfs}
        repository.commit("Put a folder", tree)
        return repository

    def fail(self, status, times=1, path="", method=None, retry_after=None, message="a fault"):
        """Answer the next requests whose path matches `path` with an error status."""
        self._failures.append([times, path, method, (status, retry_after, message)])

    def truncate(self, times=1, path="", method=None):
        """Send half of the body of the next answers whose path matches `path`, then close the connection."""
        self._failures.append([times, path, method, None])

    def cut(self, requests=None, received=None, handled=False):
        """Go down after so many more requests, or after so many more bytes of bodies.

        Then every connection is dropped until `restore`. With `handled` the request that comes after
        `requests` others is still carried out, but not answered.
        """
        self._requests_left, self._bytes_left, self._is_handled = requests, received, handled

    def restore(self):
        """Show no fault any more."""
        self._requests_left = self._bytes_left = None
        self.is_down = False
        self._failures.clear()

    def failure(self, method, path):
        """Take the fault that the answer to a request shall show: the arguments of `fail`, or "truncate"."""
        for failure in self._failures:
            times, part, only, status = failure
            if times > 0 and re.search(part, path) and only in (None, method):
                failure[0] -= 1
                return status or "truncate"
        return None

    def fate(self):
        """Count a request; return "answer", "handle" (without an answer) or "drop": what to do with it."""
        if self.is_down:
            return "drop"
        if self._requests_left is None:
            return "answer"
        self._requests_left -= 1
        if self._requests_left >= 0:
            return "answer"
        self.is_down = True
        return "handle" if self._is_handled else "drop"

    def take(self, wanted):
        """Return how many of `wanted` bytes are received before the server goes down, and count them."""
        if self._bytes_left is None:
            return wanted
        taken = min(wanted, self._bytes_left)
        self._bytes_left -= taken
        self.is_down = self.is_down or taken < wanted
        return taken


def is_kept_by_lfs(path, size):
    """Whether the Hub keeps a file by LFS."""
    return size >= _ALWAYS_LFS or any(fnmatch.fnmatch(path, name) for name in _LFS_NAMES)
