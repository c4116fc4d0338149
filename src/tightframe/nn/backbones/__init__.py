"""Pretrained networks: read, prepared for, exported."""
