"""Carries out what the core decides about instances: processes, holds, and their loads."""
