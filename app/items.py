"""Items and drafts of items."""

from pydantic import BaseModel, ConfigDict, Field

MAX_ID = 2**63 - 1


class ItemDraft(BaseModel):
    """An item as sent by a client. The price is in cents."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True)

    name: str = Field(min_length=1, max_length=100)
    description: str = Field(default="", max_length=1000)
    price_cents: int = Field(ge=0, le=100_000_000, strict=True)


class Item(BaseModel):
    """An item in the record. `version` starts at 1 and counts changes."""

    model_config = ConfigDict(frozen=True)

    id: int
    name: str
    description: str
    price_cents: int
    version: int
