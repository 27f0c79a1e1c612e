"""Malformed and extreme records, made by structured mutation of good ones, and what must hold for each of them."""
