"""Optimisation verbs that several problems share."""
