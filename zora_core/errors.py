"""Every error the runtime raises on purpose. The message names the thing, the value and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class ZoraError(Exception):
    """Base of all errors raised on purpose; its message is written for people."""


class ConfigurationError(ZoraError):
    """The environment is incomplete or contradicts itself."""


class DatabaseUnavailable(ZoraError):
    """The database cannot serve a call at the moment (unreachable, read-only, disk full, deadlock); try again later."""


class UnexpectedAnswer(DatabaseUnavailable):
    """The database, or a gateway in front of it, gave an answer that is not known to be temporary.

    A missing function during a migration looks like this, and so does a mistake: loops retry for some minutes.
    """


class RetriesExhausted(ZoraError):
    """The database gave unexpected answers for so long that retrying was given up."""


class TooMuchAtOnce(DatabaseUnavailable):
    """A call exceeded the database's statement timeout, or a request the gateway's maximum size.

    Less at once may work.
    """


class RequestTooLarge(TooMuchAtOnce):
    """A gateway in front of the database refuses a request of this size, and would refuse the same one again."""


class SchemaError(ZoraError):
    """The database's schema does not fit this version of the program."""


class InvalidPayload(ZoraError):
    """A payload does not fit the model of its task type. Trying again cannot help.

    `problems` names what is wrong as `{"field", "message"}` each.
    """

    def __init__(self, message: str, problems: Sequence[Mapping[str, str]] = ()) -> None:
        """`message` is one sentence; `problems` has an entry for each field."""
        super().__init__(message)
        self.problems = list(problems)


class UnknownTaskType(ZoraError):
    """No handler is registered for this agent and task type. Trying again cannot help."""


class NotFound(ZoraError):
    """The thing named does not exist for this tenant."""


class InvalidState(ZoraError):
    """The thing named is in a state that does not allow this."""


class NotAllowed(ZoraError):
    """The user's role does not allow this."""


class InvalidInput(ZoraError):
    """A task's input cannot be read or used (unknown page, refused address, missing file).

    A handler that raises it fails its task at once: trying again with the same input cannot help.
    """


class FalseEvidence(ZoraError):
    """A result names evidence that its run did not read. Trying again cannot help: the handler is wrong."""


class AnalysisFailed(ZoraError):
    """The process that analysed outside input ran out of memory or ended before it had a result."""


class FetchFailed(ZoraError):
    """The address is allowed but did not answer (unknown host, refused connection, time-out). Trying again may help."""


class DataRejected(ZoraError):
    """The database refuses a value (a NUL character, a number that is not one, a broken constraint).

    `unstorable` says that the value itself is to blame, whatever the tables, their constraints and triggers are.
    """

    def __init__(self, message: str = "", *, unstorable: bool = False) -> None:
        """`message` names the refused value."""
        super().__init__(message)
        self.unstorable = unstorable


class DuplicateKey(DataRejected):
    """The key is already in use."""


class JournalNotSealed(ZoraError):
    """The journal's next block must not be signed: it does not follow the last block, or another key signed it."""


SHOWN_OF_GROUP = 3  # exceptions of a group that its description names, and levels of groups in groups


def described(error: BaseException, levels: int = SHOWN_OF_GROUP) -> str:
    """An error in words: its message; for errors of others, after the type.

    A group names its first exceptions. Never raises: for an error whose `__str__` raises, the type must do.
    """
    try:
        return _described(error, levels)
    except BaseException:  # noqa: BLE001 - a property of the error or of its type is somebody else's code, too
        return "an exception that cannot be shown, because its own code raises another one"


def _described(error: BaseException, levels: int) -> str:
    try:
        said = str.__str__(str(error))  # `__str__` may return a subclass of str, with a `__format__` of its own
    except BaseException as second:  # noqa: BLE001 - it is somebody else's code
        said = f"(no message: its __str__ raised {type(second).__name__})"
    kind = type(error)  # isinstance would read `__class__`, which may be a property
    if not issubclass(kind, ZoraError):
        said = f"{kind.__name__}: {said}"
    if issubclass(kind, BaseExceptionGroup) and levels > 0:
        shown: Sequence[BaseException] = error.exceptions[:SHOWN_OF_GROUP]  # type: ignore[attr-defined]
        said += ": " + "; ".join(described(inner, levels - 1) for inner in shown)
    return said
