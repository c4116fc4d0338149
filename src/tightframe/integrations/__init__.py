"""Doors for torchmetrics, Lightning and Hugging Face."""
