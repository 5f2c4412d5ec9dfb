"""Token ids to vectors: the backend port, the backends, and the threads on which models run.

- `backend`, `description`, `registry`, `backends`: the port of a loaded model, what a backend module offers,
  the list of these modules, and the modules.
- `catalogue`, `model_files`, `tokenizer_file`, `space`, `finishing`, `hub`: which models there are, what
  their files say, prefixes and shorter vectors, downloads.
- `pool`, `model_slot`, `budget`: the loaded models of a process within its memory.
- `runner`, `replica`, `inbox`, `batching`, `isolation`, `meter`, `calibration`: one model at work.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
