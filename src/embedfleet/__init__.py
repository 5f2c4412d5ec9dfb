"""embedfleet: documents in, searchable vectors out, for many tenants at once."""

from loguru import logger

from embedfleet.quiet import silence_libraries

__version__ = "0.1.0"

silence_libraries()  # here, because every module of ours that imports a library is imported after this one

logger.disable(
    __name__
)  # a library is silent unless the application asks; `log.configure` asks for our processes
