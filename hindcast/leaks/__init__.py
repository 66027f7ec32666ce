"""The leak meter: what a planted leak claims offline, and what it is worth when served honestly."""
