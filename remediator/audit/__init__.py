"""The audit log: entries, the hash chain, the Merkle tree, checkpoints, proofs and verification. Pure, without I/O
except in ``archive`` and ``keys``."""

from remediator.audit.canonical import NotCanonical, NotRecordable, decode
from remediator.audit.chain import GENESIS, Head, seal
from remediator.audit.checkpoint import Checkpoint
from remediator.audit.checkpoint_trust import Finding, Problem
from remediator.audit.entry import Draft, Entry, Kind, SealedEntry
from remediator.audit.redact import REDACTED, Redactor, Secret, redact_json, redact_texts
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
    "redact_json",
    "redact_texts",
    "seal",
    "verify",
]
