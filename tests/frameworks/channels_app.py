"""Django with Channels: its routing by protocol before the application of `django_app`, and a consumer."""

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from .django_app import app as django_app


class Echo(AsyncWebsocketConsumer):
    """Says what it has heard, and closes."""

    async def receive(self, text_data=None, bytes_data=None):
        await self.send(f"heard {text_data}")
        await self.close()


app = ProtocolTypeRouter({"http": django_app, "websocket": URLRouter([path("websocket", Echo.as_asgi())])})
