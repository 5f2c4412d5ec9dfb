"""infinity's HTTP server on torch, with the fp32 weights from a local folder, on the CPU.

Called with MODEL_FOLDER PORT. It serves `/embeddings` until it is ended.
"""

from __future__ import annotations

import sys


def main() -> None:
    import uvicorn
    from infinity_emb import EngineArgs
    from infinity_emb.infinity_server import create_server

    folder, port = sys.argv[1], int(sys.argv[2])
    engine = EngineArgs(
        model_name_or_path=folder,
        served_model_name="minilm",
        engine="torch",
        device="cpu",
        bettertransformer=False,  # gone from the libraries it was in
        model_warmup=False,
    )
    app = create_server(engine_args_list=[engine])
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", http="httptools", loop="uvloop")


if __name__ == "__main__":
    main()
