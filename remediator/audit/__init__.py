"""The audit log's words: what an entry is, how entries are chained, proved, signed for and verified. Pure."""

from remediator.audit.canonical import NotCanonical, NotRecordable, decode
from remediator.audit.chain import GENESIS, Head, seal
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.checkpoint_trust import Finding, Problem
from remediator.audit.entry import Draft, Entry, Kind, SealedEntry
from remediator.audit.redact import REDACTED, Redactor, Secret, scrub, scrub_texts
from remediator.audit.signed_note import BadNote, BadSignature, Signer, UnknownKey, Verifier
from remediator.audit.verification import Verification, verify

__all__ = [
    "GENESIS",
    "REDACTED",
    "BadNote",
    "BadSignature",
    "Checkpoint",
    "Draft",
    "Entry",
    "Finding",
    "Head",
    "Kind",
    "NotCanonical",
    "NotRecordable",
    "Problem",
    "Redactor",
    "SealedEntry",
    "Secret",
    "Signer",
    "UnknownKey",
    "Verification",
    "Verifier",
    "decode",
    "scrub",
    "scrub_texts",
    "seal",
    "verify",
]
