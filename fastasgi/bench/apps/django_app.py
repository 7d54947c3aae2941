"""A Django view, asynchronous: a path parameter, a query, a JSON answer. No database, no middleware."""

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path

settings.configure(
    DEBUG=False,
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="for measuring only",
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[],
    INSTALLED_APPS=[],
)


async def read_item(request: HttpRequest, item_id: int) -> JsonResponse:
    """Return the item of this number."""
    name = request.GET.get("q", "engine")
    return JsonResponse({"id": item_id, "name": name, "tags": ["brass", "steam"], "price": 9.75})


urlpatterns = [path("items/<int:item_id>", read_item)]
app = get_asgi_application()
