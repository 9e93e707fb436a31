"""Asking for a critique and for a revision: shared by `critique` and `revise`.

Both are asked in the chat itself: the prompt and its newest answer as an ordinary dialogue, then the critique
request as a user turn, then the revision request (Bai et al. 2022, arXiv 2212.08073, section 3.1). So a later
round sees the newest answer only, not how it came about. Draws are keyed by the record and its round, so that
chained `critique` and `revise` steps write the same rows as one `revise` of as many rounds.
"""

from dataclasses import dataclass

from cai.config import key
from cai.constitution import Constitution, Principle
from cai.engines import Request
from cai.few_shots import ReviewShots
from cai.frames import ReviewFrames, default_review
from cai.records import Messages, Record, Reject, Turn, TurnKind, assistant, digest, draw_seed, user
from cai.stages import Asking
from cai.stages._asking import Writing, lead, no_text, reject, turn_of


@dataclass(frozen=True, kw_only=True)
class Reviewing(Writing):
    """The keys of critique and revision."""

    constitution: Constitution = key(
        help="The principles: a TOML file, or the name of a shipped constitution."
    )
    frames: ReviewFrames = key(factory=default_review, help="The chat around the principles: a TOML file.")
    few_shots: ReviewShots | None = key(None, "Demonstrations: a JSON lines file.")

    def draw_principle(self, record: Record) -> Principle:
        """The principle of this record's next round."""
        return self.constitution.pick(self.seed, record.id, "principle", record.rounds)

    def write_critique(self, stage: str, record: Record, principle: Principle) -> Asking[Record | Reject]:
        """Ask for a critique of the newest answer under `principle`, and add it to the record."""
        asked = user(self.frames.critique.ask(principle.critique))
        messages = (*lead(self._shots(critique=True), record.conversation()), asked)
        written = yield from self._write(stage, record, principle, messages, "critique")
        return record.then(written) if isinstance(written, Turn) else written

    def write_revision(self, stage: str, record: Record, principle: Principle) -> Asking[Record | Reject]:
        """Ask for a new answer: under the pending critique's principle, or straight after the answer."""
        critique = record.pending
        messages = lead(self._shots(critique=critique is not None), record.conversation())
        if critique:
            asked = user(self.frames.critique.ask(principle.critique))
            messages = (*messages, asked, assistant(critique.text))
        messages = (*messages, user(self.frames.revision.ask(principle.revision)))
        written = yield from self._write(stage, record, principle, messages, "revision")
        return record.then(written) if isinstance(written, Turn) else written

    def _write(
        self, stage: str, record: Record, principle: Principle, messages: Messages, kind: TurnKind
    ) -> Asking[Turn | Reject]:
        seed = draw_seed(self.seed, record.id, kind, record.rounds)
        [reply] = yield [Request(messages=messages, want=self.sampling, seed=seed)]
        if failure := no_text(reply):
            reason, detail = failure
            return reject(record, stage, reason, f"{kind} {record.rounds + 1}: {detail}", reply.text)
        shots = self.few_shots.fingerprint if self.few_shots else ""
        wording = digest(self.frames.fingerprint, shots, principle.fingerprint)
        return turn_of(kind, reply, principle=principle.id, wording=wording)

    def _shots(self, critique: bool) -> Messages:
        return self.few_shots.messages(self.frames, critique) if self.few_shots else ()
