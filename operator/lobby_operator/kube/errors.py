"""What can go wrong with a call of the Kubernetes API, as our own exceptions; the client library's is chained."""

from __future__ import annotations

from lobby_gateway.errors import LobbyGatewayError


class ApiError(LobbyGatewayError):
    """A call that failed. The text is one line for a person: what was asked for, and what the server said.

    Attributes:
        status: HTTP status of the answer; 0: there was none.
        reason: the server's word for it: `NotFound`.
        message: what the server said.
    """

    def __init__(self, asked: str, *, status: int = 0, reason: str = "", message: str = "") -> None:
        super().__init__(f"{asked}: {message or reason or status}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(ApiError):
    """There is no such object (or no such kind of objects: its definition is not installed)."""


class AlreadyExistsError(ApiError):
    """There is an object with that name."""


class ConflictError(ApiError):
    """The object is not, or is no longer, the one that was meant: its resourceVersion or its uid is another."""


class GoneError(ApiError):
    """A resourceVersion that the server no longer knows: list anew."""


class ForbiddenError(ApiError):
    """Not allowed: RBAC, an admission rule (Pod Security, a quota), or credentials that are no longer accepted."""


class InvalidError(ApiError):
    """The server refuses the object as it is. `message` names the fields."""


class BusyError(ApiError):
    """The server has too much to do, or an eviction is not possible now; later it may be.

    Attributes:
        retry_after: seconds after which it may be asked again; None: it did not say.
    """

    retry_after: float | None = None


class UnreachableError(ApiError):
    """No answer in time, or the server says that it can't answer now. Whether the call was done is not known."""


class NotHolderError(ApiError):
    """This process does not hold the Lease, so that it may write nothing. The call was not made."""
