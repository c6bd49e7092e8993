"""Settings of the results service, read from the environment."""

from pydantic import Field, SecretStr

from shared.settings import ServiceSettings


class ResultsSettings(ServiceSettings):
    """What `create_app` needs to know."""

    mongo_url: SecretStr
    """MongoDB's address, such as `mongodb://127.0.0.1:27017/?replicaSet=rs0`; may hold a password."""
    mongo_database: str = Field(default="scorehouse", pattern=r"^[A-Za-z0-9_-]{1,38}$")
    """Name of the database in MongoDB."""
    mongo_timeout_s: float = Field(default=5, gt=0)
    """How long one call to MongoDB may take; after it the answer is 503."""
    max_body_bytes: int = Field(default=256 * 1024 * 1024, gt=0)
    """Largest body that is accepted; 413 beyond."""
    max_batch_lines: int = Field(default=10_000, gt=0)
    """Lines that one batch may have; 413 for what follows."""
    max_line_bytes: int = Field(default=16 * 1024 * 1024, gt=0)
    """Longest line of a batch, and largest part of a live run; a larger document is pushed by itself."""
    max_import_bytes: int = Field(default=4 * 1024 * 1024 * 1024, gt=0)
    """Largest import: its files together, also when unpacked; 413 beyond. Temporary files take as much room."""
    max_import_files: int = Field(default=10_000, gt=0)
    """Files that one import may have, also when unpacked; 413 beyond."""
    max_page: int = Field(default=1000, gt=0)
    """Most results or names that a page of a list may have."""
    read_timeout_s: float = Field(default=5, gt=0)
    """Time limit of a read, kept by MongoDB; after it the answer is 504."""
    live_run_abandoned_s: float = Field(default=3600, gt=0)
    """How long nothing may come of a live run before it is told to be abandoned."""
