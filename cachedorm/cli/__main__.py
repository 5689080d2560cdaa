"""``python -m cachedorm.cli``: the same as ``cachedorm``."""

from cachedorm.cli import app

if __name__ == "__main__":
    app(prog_name="cachedorm")
