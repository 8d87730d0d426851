"""A server of the Hub's protocol inside the test process, for data sets and the real client libraries.

It knows the endpoints that `huggingface_hub` and `datasets` call to publish, load and stream a data set with
the plain LFS protocol (no Xet). Any other request is answered with 404 and kept in `hub.unknown`, so that a
test can say that nothing else was asked. Files kept by LFS are served from, and sent to, another origin
(`localhost` instead of `127.0.0.1`) without a token, as from the Hub's content network.

    @pytest.fixture
    def hub(monkeypatch, tmp_path):
        with hub_server.serving() as hub:  # accounts by token: hub_server.WRITER, hub_server.READER
            hub_server.use(hub, monkeypatch, cache=tmp_path / "cache")  # this process and its children
            yield hub

    api = HfApi(endpoint=hub.url, token=hub_server.WRITER)
    hub.repositories["someone/data"].files  # what is there: commits, each with its whole tree, tags, blobs
    hub.requests, hub.served("shard.parquet"), hub.received_whole[sha256]  # what was asked, sent and received

Faults: `hub.fail(503, times=2, path="preupload")`, `hub.truncate(path="tree")`, and `hub.cut(requests=7)`,
`hub.cut(requests=7, handled=True)` or `hub.cut(received=12_345)`, after which the server drops every
connection until `hub.restore()`. `put_folder` makes a repository of a folder without an upload.
"""

import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import datasets
import huggingface_hub
from hub_endpoints import ROUTES, Answer, Endpoints
from hub_store import ACCOUNTS, OWNER, READER, WRITER, Hub, Request

__all__ = ["ACCOUNTS", "OWNER", "READER", "WRITER", "Hub", "serving", "use"]

_PIECE = 1 << 16  # bytes of a body that are read at a time


class _Handler(Endpoints, BaseHTTPRequestHandler):
    """One connection: reads requests, shows faults, sends what the endpoints answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self):
        return self.server.hub

    def log_message(self, *_):
        """Print nothing."""

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def do_GET(self):
        hub, split = self.hub, urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(split.query).items()}
        self.request_record = Request(self.command, split.path, "Authorization" in self.headers)
        with hub.lock:
            hub.requests.append(self.request_record)
            fate = hub.fate()
            fault = hub.failure(self.command, split.path)
        if fate != "drop" and self._read_body(fate):
            answer = self._failed(fault) if isinstance(fault, tuple) else self._answer(split.path)
            if fate == "answer":
                return self._send(answer, is_whole=fault != "truncate")
        return self._drop()

    do_HEAD = do_POST = do_PUT = do_GET

    def _read_body(self, fate):
        """Read the body of the request; return whether all of it came before the server went down."""
        length, pieces = int(self.headers.get("Content-Length", 0)), []
        while length:
            with self.hub.lock:
                wanted = min(length, _PIECE)
                is_dropped = self.hub.is_down and fate == "answer"
                taken = 0 if is_dropped else self.hub.take(wanted)
            piece = self.rfile.read(taken)
            self.request_record.received += len(piece)
            if len(piece) < wanted:
                return False
            pieces.append(piece)
            length -= len(piece)
        self.body = b"".join(pieces)
        return True

    def _answer(self, path):
        for methods, pattern, endpoint in ROUTES:
            if self.command in methods and (match := pattern.fullmatch(path)):
                parts = {name: unquote(part) for name, part in match.groupdict().items() if part is not None}
                with self.hub.lock:
                    try:
                        return getattr(self, endpoint)(**parts)
                    except Answer as answer:
                        return answer
        with self.hub.lock:
            self.hub.unknown.append(self.request_record)
        return Answer(404, message="Not found")

    def _failed(self, fault):
        status, retry_after, message = fault
        headers = {} if retry_after is None else {"Retry_After": retry_after}
        return Answer(status, message=message, **headers)

    def _send(self, answer, is_whole):
        """Send an answer, or half of its body, of its head where it has none."""
        body = answer.body if self.command != "HEAD" else b""
        headers = {"Content-Length": len(answer.body), **answer.headers}
        if answer.is_json:
            headers["Content-Type"] = "application/json; charset=utf-8"
        lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {value}" for name, value in headers.items())]
        self.request_record.status = answer.status
        head = "\r\n".join((*lines, "", "")).encode("latin-1")
        if not is_whole:
            head, body = (head, body[: len(body) // 2]) if body else (head[: len(head) // 2], b"")
        self.request_record.sent = len(body)
        self.wfile.write(head + body)
        if not is_whole:
            self._drop()

    def _drop(self):
        self.close_connection = True
        with suppress(OSError):  # the client may have been first
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(**options):
    """Serve a hub on a free port; options are those of `Hub`."""
    hub = Hub(**options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub, server.daemon_threads, server.block_on_close = hub, True, False
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.is_down = True  # for the connections that clients keep open
        server.shutdown()
        server.server_close()


def use(hub, monkeypatch, cache, token=None):
    """Let the clients in this process, and in processes that it starts, ask `hub` and nobody else.

    Both libraries read the environment when they are imported, so what they made of it is changed, too.
    They keep what they download below the folder `cache`; `token` is what they find in HF_TOKEN.
    """
    for name, value in {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(cache),
        "HF_TOKEN": token,
        "NO_PROXY": "127.0.0.1,localhost",
    }.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache / "hub"),
        "HF_TOKEN_PATH": str(cache / "token"),
        "HF_STORED_TOKENS_PATH": str(cache / "stored_tokens"),
    }.items():
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(
        datasets.config, "HUB_DATASETS_URL", hub.url + "/datasets/{repo_id}/resolve/{revision}/{path}"
    )
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache / "datasets")
    huggingface_hub.HfFileSystem.clear_instance_cache()
    huggingface_hub.close_session()
