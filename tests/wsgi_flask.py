"""A Flask application, served as WSGI by test_wsgi_frameworks.py."""

from flask import Flask, Response, request, session

app = Flask(__name__)
app.secret_key = "for tests"
application = app


@app.get("/")
def index() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return f"{request.remote_addr} {session['visits']}"


@app.post("/upload")
def upload() -> dict[str, object]:
    file = request.files["file"]
    return {"name": file.filename, "size": len(file.read()), "field": request.form["field"]}


@app.post("/echo")
def echo() -> Response:
    """Answers a piece for each piece read."""
    stream = request.stream
    return Response(iter(lambda: stream.read(999), b""), mimetype="text/plain")


@app.get("/fails")
def fails() -> str:
    raise ZeroDivisionError("on purpose")
