"""The way of every request in, and of every error out."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler

from lmxd.acts import Acts
from lmxd.config.keys import Caller
from lmxd.errors import LmxdError
from lmxd.gateway.board.board import ACTIONS
from lmxd.gateway.http.origins import CORS, Origins
from lmxd.gateway.requests import failures
from lmxd.gateway.requests.authentication import actor
from lmxd.gateway.requests.bodies import Bodies
from lmxd.gateway.requests.failures import ErrorFormat
from lmxd.listening.connection import begin, cut
from lmxd.text import shortened

log = logging.getLogger(__name__)
_LONGEST_TARGET: Final = 200
"""Characters of a method and path in the log: a stranger's may have thousands."""


class Entrance(Protocol):
    """Tells who sends a request. ``origins``: the pages of others that may."""

    @property
    def origins(self) -> Origins: ...

    def entered(self, request: web.Request) -> AbstractContextManager[Caller]: ...

    def is_open(self, request: web.Request) -> bool: ...


class Guard:
    """Lets requests in, and makes an answer of each error."""

    def __init__(self, authentication: Entrance, bodies: Bodies, acts: Acts) -> None:
        self._authentication = authentication
        self._bodies = bodies
        self._acts = acts

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The answer to a request, as a middleware gives it."""
        origins = self._authentication.origins
        request[CORS] = origins.headers(request.headers)
        if (preflight := origins.preflight(request)) is not None:
            return preflight
        try:
            with self._authentication.entered(request) as caller:
                begin(request, None if self._authentication.is_open(request) else caller)
                return await handler(request)
        except LmxdError as error:
            if error.code == "not_permitted" or request.path.startswith(ACTIONS):
                self._acts.refused(actor(request), f"{_asked(request)}: {error.message}", error.code)
            return _failed(request, error, failures.status_of(error))
        except web.HTTPException as error:
            return _without_route(request, error)
        except ConnectionError:
            raise  # the client's: there is nobody to answer
        except Exception as error:
            log.error("%s", _asked(request), exc_info=error)
            told = LmxdError("internal", f"{type(error).__name__}: {error}", "report this")
            return _failed(request, told, failures.status_of(told))
        finally:
            self._bodies.release(request)


async def of_now(request: web.Request, response: web.StreamResponse) -> None:
    """No proxy keeps an answer: it is for whoever asked, and of now. A page of another origin may read it."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.update(request.get(CORS, {}))


def _asked(request: web.Request) -> str:
    return shortened(f"{request.method} {request.path}", _LONGEST_TARGET)


def _without_route(request: web.Request, error: web.HTTPException) -> web.Response:
    """The answer where there is no such path, or not by this method: it names those that there are."""
    allowed = ", ".join(sorted(error.allowed_methods)) if isinstance(error, web.HTTPMethodNotAllowed) else ""
    remedy = f"send {allowed}; docs/gateway.md has the paths" if allowed else "docs/gateway.md has the paths"
    what = f"{_asked(request)}: {error.reason.lower()}"
    answer = _failed(request, LmxdError("unknown_method", what, remedy), error.status)
    if allowed:
        answer.headers["Allow"] = allowed
    return answer


def _failed(request: web.Request, error: LmxdError, status: int) -> web.Response:
    """An error as the answer. ConnectionError if another was begun, which is cut: nobody takes it for whole."""
    if request.writer.output_size > 0:
        if request.transport is not None:
            cut(request.transport)
        raise ConnectionResetError("an answer that was begun cannot become an error") from error
    return failures.response(error, status, ErrorFormat.of(request.path, request.headers))
