"""Timings against peers, as scripts; what they measured is in RESULTS.md. Nothing here runs in CI."""
