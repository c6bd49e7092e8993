"""`python -m scorehouse`."""

from scorehouse.cli import app

app(prog_name="scorehouse")
