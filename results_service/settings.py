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
