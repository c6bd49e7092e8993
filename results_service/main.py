"""What uvicorn runs: `uvicorn results_service.main:app`."""

import sys

from results_service.app import create_app
from results_service.settings import ResultsSettings
from shared.keys import KeyFileError
from shared.log import configure_logging
from shared.process import ExitOnFailedStart, tune_interpreter
from shared.registry.load import RegistryError
from shared.settings import settings_or_exit

settings = settings_or_exit(ResultsSettings)
configure_logging("results", settings.log_level)
try:
    app = ExitOnFailedStart(create_app(settings))
except (KeyFileError, RegistryError) as error:
    sys.exit(f"results_service: {error}")
tune_interpreter()
