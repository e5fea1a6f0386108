"""The thin Ray shells around the pure engine, and what the doors need to talk to them."""
