"""Drop-in for `app.core.Embeddings.worker_orchestrator`; run as a module, it starts the orchestrator."""

from embedfleet.cli.tldw_orchestrator import main
from embedfleet.tldw.orchestrator import WorkerOrchestrator
from embedfleet.tldw.worker_config import OrchestrationConfig

__all__ = ["OrchestrationConfig", "WorkerOrchestrator"]

if __name__ == "__main__":
    main()
