"""An S3 server with its objects in memory: what pyarrow's own client asks of one, over HTTP. Notes what is read."""

import io
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlparse

BUCKET = "lake"
_XML = '<?xml version="1.0" encoding="UTF-8"?>'


class S3Server(ThreadingHTTPServer):
    """``objects`` by key; ``reads`` counts the requests for bytes of each."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.reads: Counter[str] = Counter()

    @property
    def catalog(self) -> dict[str, Any]:
        """The settings of a catalog whose warehouse is here."""
        endpoint = {"s3.endpoint": f"http://127.0.0.1:{self.server_port}", "s3.region": "us-east-1"}
        keys = {"s3.access-key-id": "of-the-tests", "s3.secret-access-key": "of-the-tests"}
        return {"warehouse": f"s3://{BUCKET}/warehouse", "properties": endpoint | keys}

    def data_files_read(self) -> set[str]:
        """The data files of which bytes were asked for since this was asked last."""
        read = {key for key in self.reads if key.endswith(".parquet")}
        self.reads.clear()
        return read


@contextmanager
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _chunks(body: BinaryIO) -> Iterator[bytes]:
    while size := int(body.readline().partition(b";")[0], 16):
        yield body.read(size)
        body.readline()
    while body.readline().strip():
        pass


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: S3Server

    def do_HEAD(self) -> None:
        self._give(self.server.objects.get(self._key), of_bytes=False)

    def do_GET(self) -> None:
        self.server.reads[self._key] += 1
        self._give(self.server.objects.get(self._key), of_bytes=True)

    def do_PUT(self) -> None:
        body = self._body()
        if "uploadId" in self._query:
            self.server.parts[self._key][int(self._query["partNumber"][0])] = body
        else:
            self.server.objects[self._key] = body
        self._answer(200, b"", ETag='"an-etag"')

    def do_POST(self) -> None:
        self._body()
        if "uploads" in self._query:
            self.server.parts[self._key] = {}
            kind, content = "InitiateMultipartUploadResult", "<UploadId>1</UploadId>"
        else:
            parts = self.server.parts.pop(self._key)
            self.server.objects[self._key] = b"".join(parts[number] for number in sorted(parts))
            kind, content = "CompleteMultipartUploadResult", "<ETag>an-etag</ETag>"
        self._answer(200, f"{_XML}<{kind}>{content}</{kind}>".encode())

    def do_DELETE(self) -> None:
        self.server.objects.pop(self._key, None)
        self._answer(204, b"")

    @property
    def _key(self) -> str:
        return unquote(urlparse(self.path).path).removeprefix(f"/{BUCKET}/")

    @property
    def _query(self) -> dict[str, list[str]]:
        return parse_qs(urlparse(self.path).query, keep_blank_values=True)

    def _body(self) -> bytes:
        body: BinaryIO = self.rfile
        if self.headers["transfer-encoding"] != "chunked":
            return body.read(int(self.headers["content-length"] or 0))
        content = b"".join(_chunks(body))
        if "aws-chunked" in (self.headers["content-encoding"] or ""):  # chunks once more, a checksum behind them
            content = b"".join(_chunks(io.BytesIO(content)))
        return content

    def _give(self, content: bytes | None, *, of_bytes: bool) -> None:
        if content is None:
            self._answer(404, b"")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["range"] or "")
        start, end = (int(asked[1]), int(asked[2] or len(content) - 1)) if asked else (0, len(content) - 1)
        part = content[start : end + 1]
        head = {"Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(content)}"} if asked else {}
        self._answer(206 if asked else 200, part, ETag='"an-etag"', of_bytes=of_bytes, **head)

    def _answer(self, status: int, body: bytes, *, of_bytes: bool = True, **head: str) -> None:
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Thu, 08 Aug 2024 00:00:00 GMT")
        self.end_headers()
        if of_bytes:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are counted, not printed."""
