"""``python -m profile_actors``: the command line."""

from __future__ import annotations

from profile_actors.cli import main

if __name__ == "__main__":
    main()
