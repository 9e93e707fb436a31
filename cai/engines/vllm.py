"""The model on this machine, through vLLM, in this process and driven by its step loop."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cai.adapter import base_of, is_adapter
from cai.config import execution, key
from cai.errors import CaiError
from cai.model_folder import resolve
from cai.records import digest
from cai.weights import template_digest, weights_digest

if TYPE_CHECKING:
    from cai.engines._vllm import VllmSession

GIB = 1 << 30
CPU_CACHE = 1.0  # GiB
CPU_STEP = 8192  # tokens in one step; a whole prompt has to fit
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM makes room for

# Set before vLLM is imported, unless the user did. In-process: a child would import everything again, and one
# that is killed leaves its parent waiting for ever.
QUIET = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
# Threads bound to cores would stay so for the training that follows; compiling takes longer than it saves.
ON_CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "TORCHDYNAMO_DISABLE": "1"}


@dataclass(frozen=True, kw_only=True)
class Vllm:
    """A model in vLLM: paged key-value cache, shared prefixes computed once, `batch` texts at once.

    A request's seed decides its random numbers, but not the last bits of what they choose from: those can
    differ with what else is in the batch. `cache` in GiB; of a GPU, `memory` is the share to take in all.
    """

    model: str = key(help="a model folder, a bundled model, or a hub id")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = key("auto", help="precision; auto: as saved")
    chat_template: Path | None = key(None, help="a Jinja file in place of the model's own chat template")
    adapter: Path | None = key(None, help="a LoRA adapter's folder (peft), served without merging")
    window: int = key(0, help="most tokens of prompt and answer; 0: all the model was made for")
    memory: float = execution(0.9, help="share of the device: weights, cache and all")
    cache: float = execution(0.0, help="GiB for keys and values; 0: what `memory` leaves (on a CPU 1)")
    batch: int = execution(256, help="texts in the making at once")
    gpus: int = execution(1, help="GPUs to split the model over")
    threads: int = execution(0, help="CPU threads; 0: as torch has it")

    def __post_init__(self) -> None:
        for name, least in (("window", 0), ("batch", 1), ("gpus", 1), ("threads", 0), ("cache", 0)):
            if (value := getattr(self, name)) < least:
                raise ValueError(f"{name} = {value}, it must be at least {least}")
        if not 0 < self.memory <= 1:
            raise ValueError(f"memory = {self.memory}, it must be above 0 and at most 1")

    def share(self) -> float:
        """The share of the device that it takes."""
        return self.memory

    def open(self) -> "VllmSession":
        """Load the model. Raises `CaiError`: vLLM is not installed, the model cannot be had, or there is too
        little memory for it.
        """
        base, adapter = self.parts()
        rank = _rank(adapter)
        on_cpu = prepare()
        with _import_errors():
            from cai.engines._vllm import VllmSession
        return VllmSession(self, resolve(self.model), self.arguments(base, on_cpu=on_cpu, rank=rank))

    def parts(self) -> tuple[Path, Path | None]:
        """The folders of the model and the adapter; a model that is an adapter itself stands on its base."""
        folder = resolve(self.model)
        if not is_adapter(folder):
            return folder, self.adapter
        if self.adapter is not None:
            twice = f"model '{self.model}' is an adapter itself, and 'adapter' names another"
            raise CaiError(twice, next="leave 'adapter' out")
        return base_of(folder), folder

    def arguments(self, folder: Path, *, on_cpu: bool, rank: int) -> dict[str, Any]:
        """What vLLM's engine is made with, for a model's folder and adapters of a rank (0: none)."""
        arguments: dict[str, Any] = {
            "model": str(folder),
            "dtype": self.dtype,
            "max_model_len": self.window or None,
            "max_num_seqs": self.batch,
            "gpu_memory_utilization": self.memory,
            "tensor_parallel_size": self.gpus,
            "enable_prefix_caching": True,
            "enforce_eager": on_cpu,
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
            # The model's own sampling defaults would mix with the recipe's.
            "generation_config": "vllm",
        }
        if cache := self.cache or (CPU_CACHE if on_cpu else 0.0):
            arguments["kv_cache_memory_bytes"] = int(cache * GIB)
        if on_cpu:
            arguments |= {
                # The least it takes: a prefix is shared by whole blocks.
                "block_size": 32,
                # vLLM 0.32 stops ("CPU Generator does not use offset") at a seeded prompt read in two steps.
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(CPU_STEP, self.window or _positions(folder)),
            }
        if rank:
            room = next(size for size in LORA_RANKS if size >= rank)
            arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}
        return arguments

    def identity(self) -> dict[str, Any]:
        return {
            "engine": "vllm",
            "model": self.model,
            "weights": self.weights(),
            "dtype": self.dtype,
            "window": self.window,
            "chat_template": template_digest(self.chat_template),
        }

    def weights(self) -> str:
        """The digest of the weights, those of the adapter included."""
        base = weights_digest(resolve(self.model))
        return base if self.adapter is None else digest(base, _adapter_digest(self.adapter))

    def can_become(self, other: Any) -> bool:
        """Whether a running session of this engine can go on as `other` with nothing changed but weights."""
        if not isinstance(other, Vllm) or self.parts()[1] is not None or other.parts()[1] is not None:
            return False
        if replace(other, model=self.model) != self:
            return False
        return _architecture(resolve(self.model)) == _architecture(resolve(other.model))


def prepare() -> bool:
    """Make vLLM quiet and single-process before it is imported; whether it will run on a CPU."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])
    import torch

    on_cpu = not torch.cuda.is_available()
    if on_cpu:
        for name, value in ON_CPU.items():
            os.environ.setdefault(name, value)
    return on_cpu


def _architecture(folder: Path) -> dict[str, Any]:
    """What two models must share for one's weights to fit the other's place."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return {
        name: value for name, value in config.items() if name not in ("_name_or_path", "transformers_version")
    }


def _positions(folder: Path) -> int:
    """The most tokens that the model was made for."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return int(config.get("text_config", config).get("max_position_embeddings", 0))


def _rank(adapter: Path | None) -> int:
    """The rank of a LoRA adapter. Raises `CaiError` when the folder holds none."""
    if adapter is None:
        return 0
    next_step = "give the folder that peft's save_pretrained() wrote"
    try:
        rank = int(json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["r"])
    except FileNotFoundError as error:
        raise CaiError("there is no adapter_config.json", where=str(adapter), next=next_step) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CaiError("this is no LoRA adapter", where=str(adapter), next=next_step) from error
    if not 1 <= rank <= LORA_RANKS[-1]:
        too_much = f"the adapter's rank is {rank}, vllm serves 1 to {LORA_RANKS[-1]}"
        raise CaiError(too_much, where=str(adapter), next="merge it into the model")
    return rank


def _adapter_digest(adapter: Path) -> str:
    _rank(adapter)
    files = sorted(path for path in adapter.iterdir() if path.name.startswith("adapter_"))
    return digest(*(part for path in files for part in (path.name, path.read_bytes().hex())))


@contextmanager
def _import_errors() -> Iterator[None]:
    """Inside, a missing vLLM is a `CaiError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise CaiError(
            "vllm is not installed", next='pip install "cai[vllm]", or use --engine local'
        ) from error
