"""A vLLM engine at work: requests in, one engine step after the other, replies out as they finish."""

import gc
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from vllm import EngineArgs, LLMEngine, SamplingParams, TokensPrompt
from vllm.lora.request import LoRARequest
from vllm.sampling_params import RequestOutputKind
from vllm.v1.engine import core

from cai.chat import load_tokenizer
from cai.engines import Reply, Request
from cai.engines._reading import Part, parts, sums
from cai.engines._requests import Reading, Unanswerable, Writing, answer_of, end_tokens, prepare, tokens_of
from cai.engines.vllm import Vllm
from cai.errors import CaiError
from cai.weights import SHORT

# The runner keeps twice the capacity in hand; so much of the cache may that fill.
IN_HAND = 2
# Of models whose output head is the embedding: what the two are called.
HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")

_open_sessions = 0


@dataclass(kw_only=True)
class _Ticket:
    """What a request of ours waits for: one vLLM request or several, and log-probs gathered so far."""

    number: int
    task: Writing | Reading
    missing: int = 0
    logps: dict[tuple[int, ...], float] = field(default_factory=dict)
    prompt_tokens: int = 0
    cached_tokens: int = 0


class VllmSession:
    """One model in vLLM, from `Vllm.open`. In this process, so that there is no child to lose."""

    def __init__(self, engine: Vllm, folder: Path, arguments: dict[str, Any]) -> None:
        global _open_sessions
        self._tokenizer = load_tokenizer(folder, engine.chat_template)
        with _as_before(), _start_errors(engine.model):
            self.vllm = LLMEngine.from_engine_args(EngineArgs(**arguments))
        _open_sessions += 1
        if engine.threads:
            torch.set_num_threads(engine.threads)
        config = self.vllm.vllm_config
        self._window = config.model_config.max_model_len
        self._tied = bool(getattr(config.model_config.hf_text_config, "tie_word_embeddings", False))
        cache = config.cache_config
        self._cache_tokens = (cache.num_gpu_blocks or 0) * cache.block_size
        self._label(engine, folder)
        self._parts: dict[str, tuple[_Ticket, Part | None]] = {}
        self._refused: deque[tuple[int, Reply]] = deque()
        self._finished = self._finished_tokens = 0
        self._lora = _lora(engine.parts()[1])
        self._closed = False

    def _label(self, engine: Vllm, folder: Path) -> None:
        self.engine = engine
        self._model, self._weights = engine.model, engine.weights()[:SHORT]
        self._ends = sorted(end_tokens(self._tokenizer, _listed_ends(folder)))

    @property
    def capacity(self) -> int:
        """The texts in the making and a quarter more; fewer when the cache cannot hold so many to their end,
        since what is pushed out of it has to be read again.
        """
        wanted = self.engine.batch + (self.engine.batch + 3) // 4
        if not self._finished:
            return wanted
        length = self._finished_tokens / self._finished
        return max(1, min(wanted, int(self._cache_tokens / (IN_HAND * length))))

    def submit(self, ticket: int, request: Request) -> None:
        """Queue a request; what cannot be answered is replied to with its error. `CaiError` when closed."""
        if self._closed:
            raise CaiError("this engine is closed", next="open it again")
        try:
            task = prepare(self._tokenizer, request, self._window)
            self._add(_Ticket(number=ticket, task=task))
        except Unanswerable as refusal:
            reply = Reply(error=str(refusal), model=self._model, weights=self._weights)
            self._refused.append((ticket, reply))

    def poll(self) -> Sequence[tuple[int, Reply]]:
        """Step the engine until something has finished; hand that back."""
        replies: list[tuple[int, Reply]] = []
        while self._refused:
            replies.append(self._refused.popleft())
        while self._parts and not replies:
            for output in self.vllm.step():
                if output.finished:
                    replies.extend(self._take(output))
        return replies

    def load_weights(self, weights: Iterable[tuple[str, Tensor]], name: str, digest: str) -> None:
        """Put other weights of the same shapes in place, named as transformers saves them.

        Raises `CaiError` while requests are in flight: their keys and values are of the old weights.
        """
        if self._parts:
            raise CaiError("weights cannot change while requests are in flight", next="poll until all are in")
        named = _with_head(weights) if self._tied else iter(weights)
        self.vllm.collective_rpc("reload_weights", kwargs={"weights_iterator": named})
        # What is cached was computed with the old weights.
        if not self.vllm.reset_prefix_cache():
            raise RuntimeError("vLLM kept keys and values of the old weights")
        self._model, self._weights = name, digest

    def become(self, engine: Any) -> bool:
        """Go on as another engine when only the weights differ, in place; whether that was possible."""
        if not self.engine.can_become(engine):
            return False
        from safetensors.torch import load_file

        from cai.model_folder import resolve

        folder = resolve(engine.model)
        self._tokenizer = load_tokenizer(folder, engine.chat_template)
        files = sorted(folder.glob("*.safetensors"))
        named = (pair for file in files for pair in load_file(file).items())
        self.load_weights(named, engine.model, "")
        self._label(engine, folder)
        return True

    def close(self) -> None:
        """Free the device."""
        global _open_sessions
        if self._closed:
            return
        self._closed = True
        self._parts.clear()
        _open_sessions -= 1
        with _groups_kept() if _open_sessions else nullcontext():
            self.vllm.engine_core.shutdown()
        del self.vllm
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _add(self, ticket: _Ticket) -> None:
        task = ticket.task
        asked: list[tuple[Part | None, tuple[int, ...], SamplingParams]]
        if isinstance(task, Writing):
            asked = [(None, task.prompt, self._writing(task))]
        else:
            asked = [(part, task.prompt + part.after, _reading_params(part)) for part in parts(task)]
        ticket.missing = len(asked)
        added: list[str] = []
        for at, (part, ids, params) in enumerate(asked):
            name = f"{ticket.number}-{at}"
            try:
                inner = self.vllm.add_request(
                    name, TokensPrompt(prompt_token_ids=list(ids)), params, lora_request=self._lora
                )
            except ValueError as error:
                self.vllm.abort_request(added, internal=True)
                for other in range(at):
                    del self._parts[f"{ticket.number}-{other}"]
                raise Unanswerable(f"vllm refuses it: {error}") from error
            added.append(inner)
            self._parts[name] = (ticket, part)

    def _writing(self, task: Writing) -> SamplingParams:
        want = task.sampling
        return SamplingParams(
            max_tokens=task.limit,
            temperature=want.temperature,
            top_p=want.top_p,
            top_k=want.top_k,
            seed=task.seed,
            stop=list(want.stop) or None,
            stop_token_ids=self._ends,
            detokenize=bool(want.stop),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _take(self, output: Any) -> Iterator[tuple[int, Reply]]:
        """Note what a finished vLLM request says; the reply, when it was the last of its ticket."""
        ticket, part = self._parts.pop(output.request_id)
        [completion] = output.outputs
        ticket.missing -= 1
        ticket.prompt_tokens += len(output.prompt_token_ids)
        ticket.cached_tokens += output.num_cached_tokens or 0
        if part is not None:
            _note_logps(ticket, part, output)
        if ticket.missing:
            return
        written = tuple(completion.token_ids) if part is None else ()
        self._finished += 1
        self._finished_tokens += len(output.prompt_token_ids) + len(written)
        yield ticket.number, self._reply(ticket, written, completion.finish_reason)

    def _reply(self, ticket: _Ticket, written: tuple[int, ...], finish: str | None) -> Reply:
        task = ticket.task
        writes = isinstance(task, Writing)
        if writes and finish not in ("stop", "length"):
            return Reply(error=f"vllm gave it up ({finish})", model=self._model, weights=self._weights)
        return Reply(
            text=answer_of(self._tokenizer, task, written) if isinstance(task, Writing) else "",
            finish="length" if writes and finish == "length" else "stop",
            logps=() if isinstance(task, Writing) else sums(task, ticket.logps),
            model=self._model,
            weights=self._weights,
            prompt_tokens=ticket.prompt_tokens,
            cached_tokens=ticket.cached_tokens,
            new_tokens=len(written),
            tokens=tokens_of(task, written),
        )


def _with_head(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The weights and, where it is left out as the embedding's equal, the output head: vLLM 0.32 on a CPU
    goes on with the old head otherwise, even when it reads a folder itself.

    Raises `CaiError` when neither is among them.
    """
    head: Tensor | None = None
    has_head = False
    for name, tensor in weights:
        has_head = has_head or name == HEAD
        if name.endswith(EMBEDDINGS):
            head = tensor
        yield name, tensor
    if head is None and not has_head:
        raise CaiError("the weights have no embedding that cai knows", next="open the engine anew")
    if head is not None and not has_head:
        yield HEAD, head


def _reading_params(part: Part) -> SamplingParams:
    return SamplingParams(
        max_tokens=1,
        temperature=0,
        logprob_token_ids=list(part.tokens),
        prompt_logprobs=0 if part.whole else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _note_logps(ticket: _Ticket, part: Part, output: Any) -> None:
    """Keep the log-probs that a finished vLLM request was asked for."""
    [completion] = output.outputs
    [found] = completion.logprobs
    for token in part.tokens:
        ticket.logps[(*part.after, token)] = found[token].logprob
    if part.whole:
        start = len(ticket.task.prompt)
        for at, token in enumerate(part.after):
            ticket.logps[part.after[: at + 1]] = output.prompt_logprobs[start + at][token].logprob


def _lora(adapter: Path | None) -> LoRARequest | None:
    return None if adapter is None else LoRARequest("adapter", 1, str(adapter))


def _listed_ends(folder: Path) -> int | list[int] | None:
    """The end tokens of the model's generation config, as the local engine takes them."""
    from transformers import GenerationConfig

    try:
        listed: int | list[int] | None = GenerationConfig.from_pretrained(str(folder)).eos_token_id
    except OSError:
        listed = None
    return listed


@contextmanager
def _as_before() -> Iterator[None]:
    """Starting vLLM on a CPU makes `torch.set_num_threads` do nothing; the training that follows needs it."""
    kept = torch.set_num_threads
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads = kept


@contextmanager
def _groups_kept() -> Iterator[None]:
    """Inside, an engine that ends leaves the process's communication groups, which other engines share."""
    cleanup = core.cleanup_dist_env_and_memory
    core.cleanup_dist_env_and_memory = lambda: None
    try:
        yield
    finally:
        core.cleanup_dist_env_and_memory = cleanup


@contextmanager
def _start_errors(model: str) -> Iterator[None]:
    """Inside, vLLM's word that a model does not fit is a `CaiError`."""
    try:
        yield
    except ValueError as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CaiError(
            f"vllm cannot start model '{model}': {line}",
            next="change cache, memory, window or dtype of the engine, or use --engine local",
        ) from error
