"""Masks: image or labels -> mask map."""
