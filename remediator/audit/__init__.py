"""The audit log's words: what an entry is, how entries are chained, proved, signed for and verified. Pure."""

from remediator.audit.canonical import NotCanonical, NotRecordable, decode
from remediator.audit.chain import GENESIS, Head, seal
from remediator.audit.entry import Draft, Entry, Kind, SealedEntry
from remediator.audit.redact import Redactor, Secret

__all__ = [
    "GENESIS",
    "Draft",
    "Entry",
    "Head",
    "Kind",
    "NotCanonical",
    "NotRecordable",
    "Redactor",
    "SealedEntry",
    "Secret",
    "decode",
    "seal",
]
