"""Measurements of speed, memory and memory traffic; nothing here is a test."""
