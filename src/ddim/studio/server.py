"""The server: Gradio's page over uvicorn, with everything that it needs from this machine alone."""

import logging
import os
import shutil
import socket
import tempfile
from contextlib import ExitStack, suppress

from ddim.errors import InputError
from ddim.system.files import folder
from ddim.system.messages import say

LARGEST = "32mb"  # of an upload
# The browser itself refuses whatever would come from elsewhere.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "frame-ancestors 'none'"
)


def application(studio):
    """The page of a `Studio` as an ASGI application."""
    import gradio as gr
    from fastapi import FastAPI

    from ddim.studio.looks import CSS, HEAD, theme
    from ddim.studio.page import page

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(FromHereAlone)
    return gr.mount_gradio_app(
        app, page(studio), "/", footer_links=[], run_history=False, show_error=True, max_file_size=LARGEST,
        ssr_mode=False, pwa=False, mcp_server=False, enable_monitoring=False, theme=theme(), css=CSS, head=HEAD,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
    )  # fmt: skip


class FromHereAlone:
    """Adds the policy to every answer. It hands on messages as they are: Gradio learns from them who has left."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def answer(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, answer)


def serve(studio, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve a `Studio` until Ctrl-C. Raises InputError where the address cannot be opened."""
    import uvicorn

    with ExitStack() as stack:
        door = stack.enter_context(listening(host, port))
        studio.check()
        uploads = tempfile.mkdtemp(prefix=".uploads-", dir=folder(studio.out).absolute())
        stack.callback(shutil.rmtree, uploads, ignore_errors=True)
        os.environ["GRADIO_TEMP_DIR"] = uploads
        server = uvicorn.Server(uvicorn.Config(application(studio), log_level="error", timeout_graceful_shutdown=1))
        # Pages may still be open at the end; that their connections are cut is no error.
        logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
        say(f"the studio: http://{host}:{door.getsockname()[1]} (Ctrl-C ends it)")
        stack.callback(studio.close)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[door])


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens, before anything is built for it. Raises InputError."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(f"{host}:{port}: cannot be opened ({error.strerror}); name another --port or --host") from None
