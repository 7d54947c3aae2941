"""Django Channels with its layer in memory: a chat room of the documentation's kind, HTTP beside it."""

import json

import django
from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path, re_path

from .common import event

if not settings.configured:
    settings.configure(
        DEBUG=False,
        SECRET_KEY="for tests only",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["channels"],
        CHANNEL_LAYERS={"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}},
    )
    django.setup()

urlpatterns = [path("", lambda request: HttpResponse("hello"))]


class Chat(AsyncWebsocketConsumer):
    """Each message goes to the group."""

    async def connect(self):
        self.group = "chat_" + self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)
        event(f"chat ended {code}")

    async def receive(self, text_data=None, bytes_data=None):
        if bytes_data is not None:
            await self.send(bytes_data=bytes_data)
        elif text_data == "close":
            await self.close(code=4123)
        else:
            await self.channel_layer.group_send(self.group, {"type": "chat.message", "text": text_data})

    async def chat_message(self, message):
        await self.send(text_data=json.dumps({"message": message["text"]}))


class Threaded(WebsocketConsumer):
    """Runs in a thread."""

    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data.upper())


class Refusing(AsyncWebsocketConsumer):
    async def connect(self):
        await self.close()


app = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [
                re_path(r"^chat/(?P<room>\w+)/$", Chat.as_asgi()),
                path("threaded", Threaded.as_asgi()),
                path("refused", Refusing.as_asgi()),
            ]
        ),
    }
)
