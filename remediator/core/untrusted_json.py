"""Decode JSON from outside this service: one kind of error for everything that can be wrong with it."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")


@overload
def decode(content: bytes | str | msgspec.Raw) -> Any: ...
@overload
def decode(content: bytes | str | msgspec.Raw, type_: type[T]) -> T: ...
def decode(content: bytes | str | msgspec.Raw, type_: Any = Any) -> Any:
    """Decode JSON.

    Raises:
        msgspec.DecodeError: not UTF-8, not JSON, nested too deeply, or (``msgspec.ValidationError``) not of this type.
    """
    try:
        return msgspec.json.decode(content, type=type_)
    except UnicodeError as error:
        raise msgspec.DecodeError(f"not UTF-8: {error}") from None
    except RecursionError:
        raise msgspec.DecodeError("nested too deeply") from None
