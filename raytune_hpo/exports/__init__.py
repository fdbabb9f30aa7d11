"""Exports: a run as files that other people's tools open. Each reads the journal alone: neither ray nor torch."""
