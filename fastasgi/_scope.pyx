# cython: freethreading_compatible=True
"""The ASGI scope: from one template for each worker, with what this request has otherwise."""

cimport cython
from cpython.dict cimport PyDict_Copy

SPEC_VERSION = "2.3"
"""Version of the ASGI HTTP & WebSocket specification that applications are told. What 2.4 brought is implemented too:
`send` raises an OSError once the client has gone. Telling it would let frameworks stop listening for http.disconnect
(Starlette's StreamingResponse does), and a stream that is idle would never learn that its client has left."""


# The values of the template; the parser hands out these very objects.
cdef str GET = "GET"
cdef bytes SLASH = b"/", EMPTY = b""


@cython.final
cdef class ScopeTables:
    """The template of all scopes: copied and overwritten, a scope never grows."""

    def __init__(self, Runtime runtime not None):
        self.asgi = {"version": "3.0", "spec_version": SPEC_VERSION}
        fields = {
            "type": "http", "asgi": None, "http_version": "1.1", "server": None, "client": None, "scheme": "http",
            "method": "GET", "root_path": runtime.root_path, "path": "/", "raw_path": b"/", "query_string": b"",
            "headers": None,
        }
        if runtime.state is not None:
            fields["state"] = None
        # A literal of so many entries is laid out for keys of any kind: half as large again, and too large for Python's
        # own allocator. One that grows from nothing is laid out for text.
        self.template = {}
        for name, value in fields.items():
            self.template[name] = value


cdef dict build_scope(Channel channel, Runtime runtime, ScopeTables tables, RequestHead head):
    """The scope of a request; nothing in it that an application may change is shared with another request."""
    cdef dict scope = PyDict_Copy(tables.template)
    if channel.server is None:
        channel.take_addresses()
    scope["asgi"] = PyDict_Copy(tables.asgi)
    scope["client"] = channel.client
    if channel.server is not tables.server:
        scope["server"] = tables.template["server"] = tables.server = channel.server
    if channel.scheme is not None:
        scope["scheme"] = channel.scheme
    if channel.tls is not None:
        scope["extensions"] = {"tls": PyDict_Copy(channel.tls)}
    if runtime.state is not None:
        scope["state"] = dict(runtime.state)
    # What is as in the template already is not set again.
    scope["path"] = runtime.root_path + head.path if runtime.root_path else head.path
    scope["headers"] = head.headers
    if head.method is not GET:
        scope["method"] = head.method
    if head.raw_path is not SLASH:
        scope["raw_path"] = head.raw_path
    if head.query is not EMPTY:
        scope["query_string"] = head.query
    if head.http_minor == 0:
        scope["http_version"] = "1.0"
    return scope
