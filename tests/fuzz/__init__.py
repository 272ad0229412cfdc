"""Odd and damaged input in bulk, each case made from its number: every one is fine, or refused in one line."""
