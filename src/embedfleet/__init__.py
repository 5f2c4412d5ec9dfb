"""embedfleet: documents in, searchable vectors out, for many tenants at once."""

from loguru import logger

from embedfleet.quiet import silence_libraries

__version__ = "0.1.0"

# Here, because every module of ours that imports a library is imported after this one.
silence_libraries()
# A library logs nothing unless the application asks. `log.configure` asks for our own processes.
logger.disable(__name__)
