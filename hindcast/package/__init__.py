"""The served model: how it is packaged, loaded and explained, and what it carries of its reference."""
