"""Tests of playbooks: ``*.test.yaml`` files, executed by the production pipeline on a virtual clock.

A test file defines the environment: alerts, answers of checks and actions, decisions. Matching, guards, approvals,
steps, verification and messages are the production code. The command is ``remediator test``.
"""
