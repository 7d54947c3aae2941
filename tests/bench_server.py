"""A small server for `test_bench.py`, which runs one of the bench's applications rightly or in a wrong way.

    python bench_server.py PORT MODULE:APP HOW

HOW is "right", or what goes wrong after the first answers: "wrong" (a byte is another one), "short" (the connection
closes within the body), "status" (500), "cached" (the first answer to each request line, again), "cached-bytes" (the
first answer to the very same request, again), "late-cache" (the first of these, but only after some answers), "dropped"
(a header of the request does not reach the application), "closing" (the connection closes between two requests).
"""

import asyncio
import importlib
import re
import sys

SOON = 12  # answers that are right before things go wrong: the verification before the run has passed


class Server:
    def __init__(self, app, how):
        self.app, self.how = app, how
        self.answers, self.cache = 0, {}

    async def call(self, head, body):
        """The whole answer of the application."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines if line]
        if self.how == "dropped":
            fields = [pair for pair in fields if pair[0] != "Cookie"]
        scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in fields]
        sent = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.append(message)

        await self.app(scope, receive, send)
        content = b"".join(message.get("body", b"") for message in sent[1:])
        names = [name for name, _ in sent[0]["headers"]]
        extra = [] if b"content-length" in names else [(b"content-length", b"%d" % len(content))]
        lines = [b"HTTP/1.1 200 OK", *(b"%b: %b" % pair for pair in [*sent[0]["headers"], *extra]), b"", b""]
        return b"\r\n".join(lines), content

    async def answer(self, head, body):
        """Head and body of the answer, spoiled in the way asked for."""
        key = {"cached": head.split(b"\r\n")[0], "late-cache": head.split(b"\r\n")[0], "cached-bytes": head + body}
        key = key.get(self.how)
        is_caching = key is not None and (self.how != "late-cache" or self.answers > SOON)
        if is_caching and key in self.cache:
            return self.cache[key]
        answer = await self.call(head, body)
        if key is not None:
            self.cache[key] = answer
        if self.answers > SOON and self.how == "wrong":
            return answer[0], b"?" + answer[1][1:]
        if self.answers > SOON and self.how == "status":
            return answer[0].replace(b"200 OK", b"500 Oops"), answer[1]
        return answer

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1])) if length else b""
                head, content = await self.answer(head, body)
                self.answers += 1
                if self.how == "short" and self.answers > SOON:
                    writer.write(head + content[: len(content) // 2])
                    return
                writer.write(head + content)
                await writer.drain()
                if self.how == "closing" and self.answers > SOON:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


async def main(port, app, how):
    module, _, name = app.partition(":")
    server = Server(getattr(importlib.import_module(module), name), how)
    async with await asyncio.start_server(server.serve, "127.0.0.1", port) as listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
