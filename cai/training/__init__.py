"""The trainer: an objective-blind loop and what it needs. `settings`, `plan` and `data` import no torch."""
