"""What uvicorn runs: `uvicorn analysis_service.main:app --port 8001`."""

import sys

import structlog

from analysis_service.app import create_app
from analysis_service.settings import AnalysisSettings
from shared.keys import KeyFileError
from shared.log import configure_logging
from shared.process import ExitOnFailedStart, share_arenas, tune_interpreter
from shared.registry.load import RegistryError
from shared.settings import settings_or_exit

settings = settings_or_exit(AnalysisSettings)
configure_logging("analysis", settings.log_level)
structlog.get_logger(__name__).info("analysis store chosen", engine=settings.engine)
try:
    app = ExitOnFailedStart(create_app(settings))
except (KeyFileError, RegistryError) as error:
    sys.exit(f"analysis_service: {error}")
tune_interpreter()
share_arenas()
