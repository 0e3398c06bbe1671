"""Who answers: one small protocol, and three engines behind it (vLLM child, endpoints, local transformers)."""

from dartlib.engines.loop import run
from dartlib.engines.models import (
    ModelError,
    embedded_folder,
    embedded_model,
    load_tokenizer,
    resolve_model,
    weights_fingerprint,
)
from dartlib.engines.opening import open_engine
from dartlib.engines.protocol import Completion, Engine, EngineError, SamplingParameters
