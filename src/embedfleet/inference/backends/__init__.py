"""The ways of running models: one module each for `onnx`, `torch`, `static`, `remote` and `stub`.

Such a module is a `BackendKind` (`inference.description`), and `inference.registry` lists it. The other
modules here are parts that these share (`admission`, `padding`, `pooling`, `normalise`) or are made of
(`onnx_graphs`, `torch_encoders`, `remote_client`, `remote_server` and what it learns of a server).

From `inference` itself, a backend imports only what it is given and what it returns: `backend`,
`description`, `model_files`, `tokenizer_file`, `space`, `segments`. Functions import the model libraries.

May import: queue_schemas, quota, evaluation, api_keys, scaling, retry, system_parts and
below.
"""
