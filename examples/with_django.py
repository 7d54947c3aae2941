"""A Django project in one file: settings, views of both kinds, a form, static files.

    python examples/with_django.py check            what `manage.py` does
    python examples/with_django.py collectstatic    for nginx, see below

Static files: `ASGIStaticFilesHandler` serves them from where they lie, which is enough for development and for a small
site. In production run `collectstatic` and let the proxy in front serve `STATIC_ROOT` under `/static/`; then
`application` needs no wrapper.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import django
from django import forms
from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path

FOLDER = Path(__file__).parent

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "for development only"),
    DEBUG=os.environ.get("DEBUG") == "1",
    ALLOWED_HOSTS=os.environ.get("ALLOWED_HOSTS", "localhost,127.0.0.1").split(","),
    # TLS ends at the proxy, which says so; fastasgi believes it (--forwarded-allow-ips), and Django asks fastasgi.
    CSRF_TRUSTED_ORIGINS=os.environ.get("TRUSTED_ORIGINS", "http://localhost:8000").split(","),
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django.contrib.staticfiles"],
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    STATIC_URL="/static/",
    STATICFILES_DIRS=[FOLDER / "static"],
    STATIC_ROOT=os.environ.get("STATIC_ROOT", FOLDER / "collected"),
)
django.setup()

PAGE = """{% load static %}<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Django</title>
<link rel="stylesheet" href="{% static "style.css" %}">
<h1>{% if name %}Hello {{ name }}{% else %}Who are you?{% endif %}</h1>
<form method="post">{% csrf_token %}{{ form.as_p }}<button>Save</button></form>
</html>
"""


class NameForm(forms.Form):
    """Asks for a name."""

    name = forms.CharField(max_length=40)


def page(request: HttpRequest) -> HttpResponse:
    """A form, and a session in a signed cookie. A plain function runs in a thread, so it may use the ORM."""
    form = NameForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        request.session["name"] = form.cleaned_data["name"]
        return redirect("page")
    context = {"form": form, "name": request.session.get("name")}
    return HttpResponse(engines["django"].from_string(PAGE).render(context, request))


async def sleep(request: HttpRequest) -> JsonResponse:
    """An asynchronous view waits without a thread."""
    await asyncio.sleep(0.01)
    return JsonResponse({"slept": True, "https": request.is_secure()})


async def numbers(request: HttpRequest, count: int) -> HttpResponseBase:
    """A streamed response. Under ASGI it must be an asynchronous generator."""

    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            yield f"{number}\n"

    return StreamingHttpResponse(lines(), content_type="text/plain")


urlpatterns = [
    path("", page, name="page"),
    path("sleep", sleep),
    path("numbers/<int:count>", numbers),
]

application = ASGIStaticFilesHandler(get_asgi_application())

if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
