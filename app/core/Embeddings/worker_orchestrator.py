"""Drop-in for `app.core.Embeddings.worker_orchestrator`; run as a module, it starts the orchestrator."""

from embedfleet.cli.serve import main
from embedfleet.worker_orchestrator import WorkerOrchestrator

__all__ = ["WorkerOrchestrator"]

if __name__ == "__main__":
    main()
