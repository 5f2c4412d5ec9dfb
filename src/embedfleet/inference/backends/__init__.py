"""The ways of running models: one module each for `onnx`, `torch`, `static`, `remote` and `stub`.

Such a module is a `BackendKind` (`inference.description`), and `inference.registry` lists it. The other
modules here are parts that these share (`admission`, `padding`, `pooling`, `normalise`) or are made of
(`onnx_graphs`, `torch_encoders`, `remote_client`, `remote_server` and what it learns of a server).

May import: what `inference` may, and of `inference` what a backend is given and returns: `backend`,
`description`, `model_files`, `tokenizer_file`, `space`, `segments`. Model libraries are imported inside
functions.
"""
