"""A Django application with its WSGI handler, served by test_wsgi_frameworks.py."""

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests",
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
)
django.setup()


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{request.META['REMOTE_ADDR']} {request.get_host()}")


@csrf_exempt
def upload(request: HttpRequest) -> JsonResponse:
    file = request.FILES["file"]
    return JsonResponse({"name": file.name, "size": file.size, "field": request.POST["field"]})


@csrf_exempt
def echo(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(iter(lambda: request.read(999), b""), content_type="text/plain")


def fails(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError("on purpose")


urlpatterns = [path("", index), path("upload", upload), path("echo", echo), path("fails", fails)]
application = get_wsgi_application()
