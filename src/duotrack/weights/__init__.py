"""Weights: reading published checkpoints safely, recognising and mapping them, writing our own."""
