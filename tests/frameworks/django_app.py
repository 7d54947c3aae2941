"""Django over ASGI in one file: the routes of `common`, sync and async views, CSRF, sessions in cookies."""

import asyncio
import json
import logging
import warnings

import django
from django import forms
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import (
    FileResponse,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template import engines
from django.urls import path, reverse
from django.utils.decorators import async_only_middleware
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import condition

from . import common
from .common import BLOCK, ETAG, FILE, Digest, Gate, event

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="not a secret",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        f"{__name__}.outer",
    ],
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    # Without this Django tells of a view that raised only by mail to the administrators.
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "django {levelname}: {message}", "style": "{"}},
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "loggers": {"django": {"handlers": ["console"], "level": logging.ERROR, "propagate": False}},
    },
    DATA_UPLOAD_MAX_MEMORY_SIZE=None,
)
django.setup()
# Django's own files under ASGI: they are read as a whole before they are sent.
warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")

gate = Gate()


@async_only_middleware
def outer(get_response):
    async def middleware(request):
        response = await get_response(request)
        response["x-outer"] = "yes"
        return response

    return middleware


async def hello(request):
    return HttpResponse("hello", content_type="text/plain")


def item(request, id):
    client = [request.META["REMOTE_ADDR"], int(request.META["REMOTE_PORT"])]
    agent = request.headers.get("User-Agent")
    return JsonResponse({"id": id, "q": request.GET.get("q"), "client": client, "agent": agent})


@csrf_exempt
async def echo(request):
    return JsonResponse({"got": json.loads(request.body)})


@csrf_exempt
def form(request):
    return JsonResponse({"name": request.POST["name"], "colour": request.POST.getlist("colour")})


@csrf_exempt
def upload(request):
    digest = Digest()
    file = request.FILES["file"]
    for data in file.chunks():
        digest.add(data)
    return JsonResponse({"name": file.name, "note": request.POST.get("note"), **digest.result()})


@csrf_exempt
async def stream(request):
    digest = Digest()
    while data := request.read(1 << 16):
        digest.add(data)
    return JsonResponse(digest.result())


async def download(request):
    async def blocks():
        for _ in range(int(request.GET["blocks"])):
            yield BLOCK

    return StreamingHttpResponse(blocks(), content_type="application/octet-stream")


async def endless(request):
    async def blocks():
        try:
            while True:
                yield BLOCK
        finally:
            event("endless stopped")

    return StreamingHttpResponse(blocks())


async def events(request):
    async def some():
        try:
            for number in range(3):
                yield f"id: {number}\ndata: {'x' * number}\n\n"
            await asyncio.Event().wait()
        finally:
            event("events stopped")

    return StreamingHttpResponse(some(), content_type="text/event-stream")


@csrf_exempt
async def release(request):
    gate.open()
    return HttpResponse(status=204)


def thread(request):
    gate.passed_by_thread()
    return HttpResponse("released")


def boom(request):
    raise ValueError("boom")


async def boom_late(request):
    async def blocks():
        yield BLOCK
        raise ValueError("boom")

    return StreamingHttpResponse(blocks())


def visits(request):
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JsonResponse({"visits": request.session["visits"]})


def redirect(request):
    return HttpResponseRedirect(reverse("hello"), preserve_request=True)


@condition(etag_func=lambda request: ETAG)
def etag(request):
    return HttpResponse("tagged")


def file(request):
    return FileResponse(FILE.open("rb"), as_attachment=True, filename="common.txt")


def urls_of(request):
    base = request.build_absolute_uri("/")
    return JsonResponse({"base": base, "item": request.build_absolute_uri(reverse("item", args=[7]))})


def cookies(request):
    response = JsonResponse(request.COOKIES)
    response.set_cookie("first", "1")
    response.set_cookie("second", "2", path="/cookies", httponly=True, samesite="Strict", max_age=60)
    return response


async def mark(request):
    common.mark("collect" in request.GET)
    return HttpResponse(status=204)


# ------------------------------------------------------------------------------- what only Django has
class PersonForm(forms.Form):
    """As in the administration: validated, shown again with what is wrong."""

    name = forms.CharField(max_length=10)
    age = forms.IntegerField(min_value=0)


PAGE = "<form method=post>{% csrf_token %}{{ form.as_p }}<button>Save</button></form>"


def person(request):
    filled = PersonForm(request.POST or None)
    if request.method == "POST" and filled.is_valid():
        request.session["person"] = filled.cleaned_data
        return HttpResponseRedirect(reverse("person-saved"))
    return HttpResponse(engines["django"].from_string(PAGE).render({"form": filled}, request))


def person_saved(request):
    return JsonResponse(request.session["person"])


def download_sync(request):
    """A plain generator, which Django reads as a whole before it sends, with a warning."""
    return StreamingHttpResponse(iter([b"one,", b"two,", b"three"]))


async def slow(request):
    """Waits for ever; told by its cancellation that the client has gone."""
    event("slow waits")
    try:
        await asyncio.Event().wait()
    finally:
        event("slow stopped")


urlpatterns = [
    path("hello", hello, name="hello"),
    path("items/<int:id>", item, name="item"),
    path("json", echo),
    path("form", form),
    path("upload", upload),
    path("stream", stream),
    path("download", download),
    path("endless", endless),
    path("events", events),
    path("release", release),
    path("thread", thread),
    path("boom", boom),
    path("boom-late", boom_late),
    path("visits", visits),
    path("redirect", redirect),
    path("etag", etag),
    path("file", file),
    path("urls", urls_of),
    path("cookies", cookies),
    path("mark", mark),
    path("person", person),
    path("person/saved", person_saved, name="person-saved"),
    path("download-sync", download_sync),
    path("slow", slow),
]

app = get_asgi_application()
